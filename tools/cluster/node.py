"""Runs the node's programs: the registry, containerd, the kubelet and kube-proxy.

Images are pulled from the registry, also the pause image, because a pull checks every digest.
"""

import os

import kube
import process
from place import DNS, LINK, NAME, NODE, NODE_NAME, PODS, REGISTRY, Place, output, pinned

PAUSE = f"{REGISTRY}/loop-cluster/pause:1"
CNI_PLUGINS = "/usr/lib/cni"  # Debian's folder of the CNI plugins
SOCKET = "containerd.sock"


def containerd_config(place: Place) -> str:
    """Return containerd's configuration, which puts all files below the state folder."""
    run = place.run
    return f"""\
version = 2
root = "{run}/containerd"
state = "{run}/containerd-state"
[grpc]
  address = "{LINK}/{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  disable_hugetlb_controller = true
  # Without CAP_SYS_RESOURCE, runc may not lower an OOM score and fails with "can't get final child's PID from
  # pipe".
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{run}/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{run}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def cni_config(place: Place) -> dict[str, object]:
    """Return the CNI configuration: one bridge for the pods, masqueraded towards all other addresses."""
    ipam = {
        "type": "host-local",
        # The range that Kubernetes assigns to the first node
        "ranges": [[{"subnet": PODS.replace("/16", "/24")}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{place.run}/cni-addresses",
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    return {"cniVersion": "1.0.0", "name": NAME, "plugins": [{**bridge, "ipam": ipam}]}


def kubelet_config(place: Place) -> dict[str, object]:
    """Return the kubelet's configuration, which is written as JSON because JSON is valid YAML."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{place.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}",  # `down` ends every process in this cgroup
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{LINK}/{SOCKET}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS],
        "resolvConf": f"{place.run}/resolv.conf",
        "podLogsDir": f"{place.run}/pod-logs",
        "volumePluginDir": f"{place.run}/volume-plugins",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
    }


def start_registry(place: Place) -> None:
    """Start Debian's docker-registry, with plain HTTP on the node's address, and push the pause image."""
    place.registry.mkdir(parents=True, exist_ok=True)
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        # Images are outside the state folder, so they are kept
        "storage": {"filesystem": {"rootdirectory": str(place.registry)}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    # JSON is valid YAML
    command = ["docker-registry", "serve", place.file("registry.json", config)]
    process.start(place, "registry", command, ready=f"http://{REGISTRY}/v2/")
    layer = place.run / "pause.tar"
    output("tar", f"--file={layer}", "--create", f"--directory={place.programs}", "pause")
    crane, direct = (pinned() / "crane", "--insecure"), {**os.environ, "NO_PROXY": "*"}
    output(*crane, "append", "--oci-empty-base", f"--new_layer={layer}", f"--new_tag={PAUSE}", env=direct)
    changes = ("--entrypoint=/pause", "--user=65535:65535", "--set-platform=linux/amd64")
    output(*crane, "mutate", *changes, f"--tag={PAUSE}", PAUSE, env=direct)


def start_containerd(place: Place) -> None:
    """Start containerd, and allow it plain HTTP to the cluster's registry."""
    hosts = f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n'
    place.file(f"registries/{REGISTRY}/hosts.toml", hosts)
    place.file("cni/10-loop.conflist", cni_config(place))
    path = place.file("containerd.toml", containerd_config(place))
    process.start(place, "containerd", ["containerd", "--config", path])
    process.wait(place, "containerd", lambda: output("ctr", "-a", LINK / SOCKET, "plugins", "list"))


def start(place: Place) -> None:
    """Start the kubelet and kube-proxy, and wait until the node is Ready."""
    place.file("resolv.conf", "")  # no name server, so names outside the cluster are not resolved
    config = place.file("kubelet.json", kubelet_config(place))
    kubelet = ["kubelet", f"--config={config}", f"--kubeconfig={place.pki}/kubelet.kubeconfig"]
    kubelet += [f"--hostname-override={NODE_NAME}", f"--node-ip={NODE}", f"--root-dir={place.run}/kubelet"]
    kubelet += [f"--cert-dir={place.pki}", f"--tls-cert-file={place.pki}/kubelet.crt"]
    process.start(place, "kubelet", [*kubelet, f"--tls-private-key-file={place.pki}/kubelet.key"])
    proxy = ["kube-proxy", f"--kubeconfig={place.pki}/proxy.kubeconfig"]
    proxy += ["--proxy-mode=nftables", f"--hostname-override={NODE_NAME}", f"--cluster-cidr={PODS}"]
    proxy += [f"--nodeport-addresses={NODE}/32", "--conntrack-max-per-core=0"]
    proxy += [f"--conntrack-tcp-timeout-{state}=0s" for state in ("established", "close-wait")]
    process.start(place, "kube-proxy", proxy)
    state = '--output=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
    process.wait(place, "kubelet", lambda: kube.kubectl(place, "get", "nodes", state) == "True")
    process.wait(place, "kube-proxy", "http://127.0.0.1:10256/healthz")
