"""Two workers on two cores beside one on one: what the second brings.

`python -m benchmarks.workers [--rounds 5] [--seconds 4] [--connections 64]`

The load, the upstream and Redis run on the second core as well, so the figure is a lower bound: on a machine of two
cores nothing can show more.
"""

import argparse
import statistics

from benchmarks.harness import GATEWAY_PORT, SUPPORT, TESTED, load_run, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    rps: dict[int, list[float]] = {1: [], 2: []}
    with stage() as on:
        for number in range(options.rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                cores = (TESTED,) if workers == 1 else (TESTED, SUPPORT)
                with on.gateway(workers=workers, cores=cores):
                    load_run(GATEWAY_PORT, options.connections, 1, on.directory)
                    run = load_run(GATEWAY_PORT, options.connections, options.seconds, on.directory)
                assert not run["errors"], run
                rps[workers].append(run["requests"] / run["seconds"])
    of = [two / one for one, two in zip(rps[1], rps[2], strict=True)]
    print("| workers | requests/s | of one worker's (min-max) |\n|---|---:|---:|")
    print(f"| 1 | {statistics.median(rps[1]):.0f} | 1.00 |")
    print(f"| 2 | {statistics.median(rps[2]):.0f} | {statistics.median(of):.2f} ({min(of):.2f}-{max(of):.2f}) |")


if __name__ == "__main__":
    main()
