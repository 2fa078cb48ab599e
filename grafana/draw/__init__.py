"""Pictures of the dashboards, drawn with Grafana's own components in a headless browser: see README.md."""
