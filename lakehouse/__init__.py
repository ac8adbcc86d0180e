"""Dataset spec, settings, catalog, schema, quality suite, SQL views, reports. Imports nothing of ours."""
