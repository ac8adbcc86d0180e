"""The demo: MovieLens ratings all the way from a raw impression log to scores."""
