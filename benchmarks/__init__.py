"""Speed and memory of tbtjax beside what a user could put together instead.

`python -m benchmarks.run` measures; `benchmarks/README.md` says how to read the result.
"""
