"""Whether a cluster can ever hold a run's workers, as a pure rule."""

from collections.abc import Mapping, Sequence

from steelyard_workflows.workflow import Scaling


def lacking(scaling: Scaling, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """What is missing, in words; None when all workers find a place on an idle cluster.

    A worker needs its devices on one node, so the sum over all nodes is not enough.

    >>> lacking(Scaling(workers=2, cpus_per_worker=2), [{"CPU": 3.0}, {"CPU": 1.0}])
    'the run needs 2 workers with 2 CPUs each; the cluster has room for 1: 2 nodes, 4 CPUs, 0 GPUs'
    """
    places = sum(_places(scaling, node) for node in nodes)
    if places >= scaling.workers:
        return None
    cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    each = f"{scaling.cpus_per_worker} CPUs"
    if scaling.gpus_per_worker:
        each += f" and {scaling.gpus_per_worker} GPUs"
    return (
        f"the run needs {scaling.workers} workers with {each} each; the cluster has room for "
        f"{places}: {len(nodes)} nodes, {cpus} CPUs, {gpus} GPUs"
    )


def _places(scaling: Scaling, node: Mapping[str, float]) -> int:
    """How many workers fit on an idle node."""
    fit = int(node.get("CPU", 0)) // scaling.cpus_per_worker
    if scaling.gpus_per_worker:
        fit = min(fit, int(node.get("GPU", 0)) // scaling.gpus_per_worker)
    return fit
