#!/bin/bash
# One sweep over a Ray cluster, from any of its machines or from one that reaches its head:
#   examples/fleet/ray-cluster.sh HEAD:6379 /mnt/shared/runs
# Every node has the same sam-bench, installed with [ray], and was started with its kind as label:
#   ray start --address HEAD:6379 --labels ray.io/accelerator-type=L4
# (Ray finds the kind of most NVIDIA GPUs itself.)
set -euo pipefail

address=${1:?name the head, such as 10.0.0.1:6379}
store=${2:?name a store that all nodes reach, such as /mnt/shared/runs or s3://bucket/runs}

sam-bench plan --config examples/fleet/sweep.toml --gpu L4,L40S,H200 \
    --fleet ray --ray-address "$address" --store "$store"
sam-bench sweep --config examples/fleet/sweep.toml --gpu L4,L40S,H200 \
    --fleet ray --ray-address "$address" --store "$store"
