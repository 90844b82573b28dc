"""Which operations of a LiteRT file its own CPU kernels run, because no delegate took them."""

from keras_video_focalnet.exporting.litert_operations import highest_rank, list_operations


def check_litert(path, report):
    """Every processor takes a file, and takes it whole but for the first conversion of pixels."""
    operations = list_operations(path)
    assert highest_rank(operations) == 4
    assert not {"FLEX", "CUSTOM", "GATHER", "GATHER_ND", "SCATTER_ND"} & {operation.name for operation in operations}
    assert report["refused_by_gpus"] == []
    assert outside_delegates(path) == (1, ["CAST"])


def outside_delegates(path):
    """Load a file with the delegate that LiteRT puts to processors by itself, XNNPACK.

    Returns:
        The number of its delegates, and the names of the operations that none of them took, in their order.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    # What a delegate took stays in the list, in front of the delegates. Of two that make a tensor the last one runs.
    makers = {}
    for node in interpreter._get_ops_details():
        makers.update((int(tensor), node) for tensor in node["outputs"])
    running, wanted = {}, [output["index"] for output in interpreter.get_output_details()]
    while wanted:
        node = makers.get(int(wanted.pop()))
        if node is not None and node["index"] not in running:
            running[node["index"]] = node
            wanted.extend(tensor for tensor in node["inputs"] if tensor >= 0)
    names = [running[index]["op_name"] for index in sorted(running)]
    return names.count("DELEGATE"), [name for name in names if name != "DELEGATE"]
