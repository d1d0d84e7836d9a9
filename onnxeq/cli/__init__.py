"""The command line: typer commands that parse, call one function each, and render its result."""
