"""What a run tells: the console, metrics.jsonl, TensorBoard, and figures drawn from them afterwards.

A reporter is a callable `(iteration, metrics) -> None` with a `close()`; `reporters.open_reporters` opens the
three of a run. Nothing here imports torch, and nothing heavy is imported before it is used.
"""
