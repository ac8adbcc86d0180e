"""The command line and the names that a user imports first."""
