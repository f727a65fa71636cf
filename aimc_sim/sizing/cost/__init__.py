"""What a model costs on tiles, in closed forms: workload × designs × constants → energy, latency, area."""
