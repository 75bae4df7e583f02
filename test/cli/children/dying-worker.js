// Preloaded, it makes each worker of `serve --workers` end before it has begun.
if (process.env.MCP_ROAM_WORKER_PORT !== undefined) process.exit(7)
