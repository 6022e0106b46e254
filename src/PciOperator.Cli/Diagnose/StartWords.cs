namespace PciOperator.Cli.Diagnose;

/// <summary>What kube-scheduler, kubelets, container runtimes and KubeVirt say of a pod or VM that doesn't start, and what helps. Pure.</summary>
internal static class StartWords
{
    // The first that fits; {0} is the claim's name and its namespace, as an option.
    private static readonly (string[] Said, string Fix)[] Known =
    [
        (
            ["resourceclaim not available on the node", "Insufficient"],
            "No node that can serve the claim has room for the pod: make room there. An Immediate claim stays on its node, full or cordoned; with bindingMode WaitForFirstConsumer kube-scheduler chooses among all that can."
        ),
        (
            ["cannot allocate all claims"],
            "The claim is not offered yet, or a requestName is none of its own: kubectl pci explain {0}, kubectl pci vm {0}."
        ),
        (["waiting for binding"], "The node's agent is binding the devices: kubectl pci explain {0}."),
        (
            ["not created yet"],
            "Kubernetes makes no ResourceClaim of the template: kubectl get events says which policy refused it, and docs/kubevirt.md what a template has to be like."
        ),
        (
            ["is another PassthroughClaim's"],
            "A DeviceClass lets our devices through to other claims: its owner has to leave out driver pcioperator.io."
        ),
        (
            ["failed to prepare dynamic resources"],
            "The agent's sentence follows; the kubelet tries again by itself: kubectl pci explain {0}."
        ),
        (
            ["unresolvable CDI devices"],
            "CDI is off in the node's container runtime: containerd 2.x, CRI-O, or enable_cdi = true in containerd 1.7."
        ),
        (
            ["asks for a claim of another namespace"],
            "An extended resource belongs to the namespace in its name: make a claim in the VM's own."
        ),
        (
            ["permittedHostDevices"],
            "kubectl apply -f config/kubevirt/permitted-host-devices.yaml: the controller then keeps KubeVirt's list."
        ),
        (
            ["feature gate"],
            "Set HostDevices, GPUsWithDRA and HostDevicesWithDRA in the KubeVirt's spec.configuration.developerConfiguration.featureGates."
        ),
        (
            ["number of device plugin"],
            "The VM has more entries than the claim has devices, or its container started before it had them: kubectl pci vm {0}."
        ),
        (
            ["locked memory", "RLIMIT_MEMLOCK"],
            "KubeVirt raises the limit itself from 1.9 on (1.8: with its patches); leave out memory requests below limits, and memoryOvercommit."
        ),
        (["not viable"], "Something else of the IOMMU group is on a host driver: kubectl pci groups, kubectl pci diagnose --node."),
        (
            ["resource busy", "already in use"],
            "Another VM or process has the devices open: stop it, or give this VM a claim of its own (kubectl pci explain {0})."
        ),
        (
            ["ImagePull", "ErrImage", "InvalidImageName", "pull image"],
            "The image can't be fetched: its name, the registry, and the pull secret of the VM's service account or containerDisk."
        ),
        (["not found"], "The ResourceClaim comes with the claim: kubectl pci explain {0}."),
    ];

    /// <summary>What helps against what somebody said.</summary>
    /// <param name="said">The words.</param>
    /// <param name="claim">The claim's name, and its namespace as an option.</param>
    /// <param name="otherwise">Where to look when these words are not known.</param>
    public static string FixOf(string said, string claim, string otherwise)
    {
        foreach ((string[] words, string fix) in Known)
        {
            if (words.Any(w => said.Contains(w, StringComparison.OrdinalIgnoreCase)))
                return fix.Replace("{0}", claim, StringComparison.Ordinal);
        }

        return otherwise;
    }
}
