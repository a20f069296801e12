"""The verbs over a loaded model and a genome, plain values in and out; no HTTP (MCP and dialects use them, too)."""
