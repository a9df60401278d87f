"""The keeper: a process of a node that its containers run under, and that goes on when the kubelet is killed.

    kubelet ── KeptRuntime ── KeeperLink ══ Channel ══ Service ── HostRuntime, OciRuntime ── containers
       process of the kubelet                │                 process of the keeper

A container's parent must outlive the kubelet: it holds the pod's namespaces, reads what the container says into its log
(rotation and all), and learns how it ended. containerd has a shim for every pod for that; here one process does it for
a whole node, so that a pod costs no more memory than its own processes. It runs the same runtimes that a kubelet
without a keeper has in its own process (`runtime/host.py`, `runtime/oci.py`).

- It is started with the node's first pod. A kubelet that starts finds it by a socket in the node's folder, and takes
  over what runs: nothing is made anew.
- It ends with the kubelet's orderly end; when it is alone and keeps nothing; when its socket is removed, as with the
  node's folder (`rm -r`), after which nobody could find it; and, if it has been told so, some time after a kubelet was
  killed and none came back. Its pods end with it.
- If it is killed, the kernel ends its containers (PR_SET_PDEATHSIG), and the kubelet makes new pods' surroundings in a
  new keeper.
"""
