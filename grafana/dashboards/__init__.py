"""The dashboards, as code; no part of the package. `python -m grafana.dashboards` writes them as JSON.

`promql` has the queries' pieces, `panels` those of panels, `frame` what all dashboards share: variables, annotations,
links. Each dashboard is a module of its own.
"""
