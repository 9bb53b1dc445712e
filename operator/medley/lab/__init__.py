"""Real-time stand-ins for what a laptop does not have: a cluster, GPU nodes, a kubelet, Prometheus, vLLM, users.

They are part of the product: shipped, documented and tested, so that Medley can be tried, demonstrated and tested with
nothing but Python and the package registries.

Owns: the local control plane and its tools, fake nodes and the fake kubelet, node groups (a stand-in for a cloud's
scaling groups), the Prometheus process, the vLLM simulator, the load generator; the same loop in containers on a
cluster with real kubelets. May import: every room below it (actuation, telemetry, api, cycle, planning, allocation,
workload, profiles, ports, model), kubernetes, and HTTP clients and servers. Runs on Linux: fake pods live on
127.0.0.0/8 and children die with their parent (prctl).
"""
