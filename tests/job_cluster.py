"""A local cluster that takes jobs, until its input ends: says where its dashboard is."""

from __future__ import annotations

import sys
import time

from ray.job_submission import JobSubmissionClient

from tests.clusters import start_cluster

START_TIMEOUT_S = 180.0
POLL_S = 0.5


def main() -> None:
    cluster = start_cluster(
        num_cpus=2,
        object_store_memory=200 * 1024**2,
        include_dashboard=True,
        # Any free ones. Ray's defaults are fixed, and the agent of whichever cluster comes second
        # on a machine does without its server, so that its cluster never takes a job.
        dashboard_port=None,
        dashboard_agent_listen_port=0,
    )
    await_agent(JobSubmissionClient(f"http://{cluster.webui_url}"))
    print(cluster.webui_url, flush=True)
    sys.stdin.read()
    cluster.shutdown()


def await_agent(client: JobSubmissionClient) -> None:
    """The dashboard is there before the agent that starts jobs is."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.submit_job(entrypoint="true")
        except RuntimeError as e:
            if "No available agent" not in str(e) or time.monotonic() > deadline_s:
                raise
            time.sleep(POLL_S)
        else:
            return


if __name__ == "__main__":
    main()
