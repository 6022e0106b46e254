using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Ask;
using PciOperator.Cli.See;
using PciOperator.Core;

namespace PciOperator.Cli.Diagnose;

/// <summary>One thing that is wrong.</summary>
/// <param name="Where">The node, claim or object.</param>
/// <param name="Type">One word.</param>
/// <param name="Problem">What is wrong, in the words of who found it.</param>
/// <param name="Fix">What to do.</param>
internal sealed record Finding(string Where, string Type, string Problem, string Fix);

/// <summary>From conditions and facts to problems, each with its fix. Pure.</summary>
internal static class Diagnosis
{
    private const string Hosts = "docs/hosts.md";

    /// <summary>Conditions of PciNodes that say something is wrong, and by which status.</summary>
    private static readonly (string Type, string Wrong, string Fix)[] OfNodes =
    [
        (
            Conditions.IommuEnabled,
            "False",
            "Turn on VT-d or AMD-Vi in the BIOS; on Intel add intel_iommu=on to the kernel command line; remove iommu=off, intel_iommu=off, amd_iommu=off; reboot."
        ),
        (
            Conditions.VfioReady,
            "False",
            "Install the kernel's modules, which have vfio-pci: linux-modules-extra-VERSION (Ubuntu), kernel-modules (RHEL)."
        ),
        (
            "InterruptRemapping",
            "False",
            "Remove intremap=off and nointremap from the kernel command line, allow_unsafe_interrupts=1 from /etc/modprobe.d; turn on interrupt remapping or x2APIC in the BIOS; reboot."
        ),
        (
            "GroupsIsolated",
            "False",
            "Move cards to slots under other root ports, or turn on ACS in the BIOS; remove pcie_acs_override= unless all guests trust each other."
        ),
        (
            "VfioBoundAtBoot",
            "True",
            "Say managed: false in the devices' PciDeviceSpec, or remove the ids from vfio-pci.ids= and /etc/modprobe.d, run update-initramfs -u or dracut -f, and reboot."
        ),
        (
            Conditions.KubeletRegistered,
            "False",
            "See the agent's pod and log on that node (kubectl logs -n pcioperator-system), and that /var/lib/kubelet/plugins_registry is mounted into it."
        ),
        (
            Conditions.DriftDetected,
            "True",
            "Put the card back where it was, or delete the claim that holds it; kubectl describe pn says more."
        ),
        (Conditions.InventoryTruncated, "True", "Narrow the PciDeviceSpecs: what is left out is not offered."),
        (Conditions.InventoryReady, "False", "See the agent's pod and log on that node (kubectl logs -n pcioperator-system)."),
    ];

    private static readonly Dictionary<string, string> OfDevices = new(StringComparer.Ordinal)
    {
        ["ConfigSpaceGone"] = "Check power and seat of the card; remove it from the bus and rescan, or reboot the node.",
        ["AerErrors"] = "See dmesg; check seat, riser, cable and firmware.",
        ["LinkDegraded"] = "Check seat, riser, cable, and the slot's settings in the BIOS.",
    };

    private static readonly Dictionary<string, string> OfWithheld = new(StringComparer.Ordinal)
    {
        [WithheldWords.UsedOnce] = "When you have looked at it: kubectl annotate pcinode {0} pcioperator.io/free={1}",
        [WithheldWords.NotClean] = "Reboot the node, or, for a VF, have its PF make it again.",
        [WithheldWords.NoReset] = "Say reset: bestEffort in its PciDeviceSpec if its guests trust each other; else it can't be offered.",
        [WithheldWords.CannotBind] = "No VFIO driver of this kernel binds it; see the reason.",
        [WithheldWords.GroupHasPf] = "Offer the PF instead, or move the card under a port with ACS.",
        [WithheldWords.ConfigSpaceGone] = "Check power and seat of the card; remove it from the bus and rescan, or reboot the node.",
        [WithheldWords.NotAnswering] = "Reboot the node when its other claims allow it.",
    };

    /// <summary>What is wrong with nodes.</summary>
    public static IEnumerable<Finding> OfCluster(ClusterSnapshot cluster, IReadOnlyList<DeviceView> devices, string? only)
    {
        var pciNodes = cluster.PciNodes.ToDictionary(n => n.Metadata.Name);
        foreach (V1Node node in cluster.Nodes.Where(n => only is null || n.Metadata.Name == only))
        {
            string name = node.Metadata.Name;
            if (pciNodes.GetValueOrDefault(name) is not { } pciNode)
            {
                yield return new(
                    name,
                    "NoPciNode",
                    "It has no PciNode.",
                    "The controller makes one for each Node: see its pod and log (kubectl logs -n pcioperator-controller deploy/pcioperator-controller)."
                );
                continue;
            }

            if (cluster.ReadyAgents?.Contains(name) == false)
            {
                yield return new(
                    name,
                    "AgentNotReady",
                    "No agent that is ready runs on it.",
                    "kubectl get pods -n pcioperator-system -o wide; a taint may keep the DaemonSet's pod away, or its image can't be pulled."
                );
            }

            if (pciNode.Status?.Conditions is not { Count: > 0 } conditions)
            {
                yield return new(
                    name,
                    "NoInventory",
                    "Its agent has said nothing yet.",
                    "See the agent's log (kubectl logs -n pcioperator-system)."
                );
                continue;
            }

            foreach ((string type, string wrong, string fix) in OfNodes)
            {
                if (conditions.Find(type) is { } condition && condition.Status == wrong)
                    yield return new(name, type, Words.Sentence(condition.Message), $"{fix} More: {Hosts}.");
            }

            foreach (AssignmentStatus stuck in (pciNode.Status.Assignments ?? []).Where(a => a.State == HoldingState.Stuck))
            {
                yield return new(
                    name,
                    stuck.Reason ?? "Stuck",
                    $"Claim {stuck.ClaimNamespace}/{stuck.ClaimName} is stuck: {Words.Sentence(stuck.Message)}",
                    "What is named there has to end or be put right; a write that the kernel never finishes ends with a reboot."
                );
            }
        }

        foreach (DeviceView device in devices.Where(d => only is null || d.Node == only))
        {
            foreach (Finding finding in OfDevice(device))
                yield return finding;
        }
    }

    /// <summary>What is wrong with specs and aliases.</summary>
    public static IEnumerable<Finding> OfNames(IReadOnlyList<PciDeviceSpec> specs, IReadOnlyList<PciAlias> aliases)
    {
        foreach (PciDeviceSpec spec in specs)
        {
            foreach (string type in new[] { Conditions.Accepted, "Applied" })
            {
                if (spec.Status?.Conditions.Find(type) is { Status: "False" } condition)
                {
                    yield return new(
                        $"PciDeviceSpec {spec.Metadata.Name}",
                        $"Not{type}",
                        Words.Sentence(condition.Message),
                        "Change what it names."
                    );
                }
            }
        }

        foreach (PciAlias alias in aliases)
        {
            string name = $"PciAlias {alias.Metadata.Name}";
            if (alias.Status?.Conditions.Find(Conditions.Accepted) is { Status: "False" } condition)
            {
                yield return new(name, "NotAccepted", Words.Sentence(condition.Message), "Change what it names.");
            }
            else if (alias.Status?.Devices == 0)
            {
                yield return new(
                    name,
                    "NoDevices",
                    "No node has a device that it means.",
                    "See kubectl pci devices for what PciDeviceSpecs offer; an alias means PFs only with deviceType type-PF."
                );
            }
        }
    }

    /// <summary>What is wrong with claims.</summary>
    public static IEnumerable<Finding> OfClaims(IReadOnlyList<PassthroughClaim> claims, string? only)
    {
        foreach (PassthroughClaim claim in claims)
        {
            var view = ClaimView.Of(claim);
            if (only is not null && view.Node != only)
                continue;
            string where = $"claim {view.Namespace}/{view.Name}";
            if (claim.Metadata.DeletionTimestamp is not null)
            {
                yield return new(
                    where,
                    "Releasing",
                    $"It is deleted and not gone: {Words.Sentence(view.InUse ?? view.Message)}",
                    "It goes when no pod uses it and its node's agent has given every device back: end the pod that it names, and see kubectl pci diagnose --node for its node."
                );
            }
            else if (!view.Ready && view.Node is null && claim.Spec.BindingMode == BindingMode.Immediate)
            {
                yield return new(
                    where,
                    "Waiting",
                    Words.Sentence(view.Message ?? "its controller has not looked at it"),
                    $"kubectl pci explain {view.Name} -n {view.Namespace} says it node by node."
                );
            }
            else if (!view.Ready && view.Node is not null)
            {
                yield return new(
                    where,
                    "NotReady",
                    $"It is on {view.Node}, and not ready: {Words.Sentence(view.Message)}",
                    $"kubectl describe pn {view.Node}, and kubectl pci diagnose --node {view.Node}."
                );
            }
        }
    }

    /// <summary>Pods that want a claim and don't start.</summary>
    public static IEnumerable<Finding> OfPods(IReadOnlyList<V1Pod> pods, IReadOnlyList<PassthroughClaim> claims)
    {
        HashSet<string> known = [.. claims.Select(c => $"{c.Metadata.NamespaceProperty}/{c.Metadata.Name}")];
        foreach (V1Pod pod in pods.Where(p => p.Status?.Phase is "Pending"))
        {
            string? wanted = (pod.Spec?.ResourceClaims ?? [])
                .Select(r => r.ResourceClaimName)
                .FirstOrDefault(n => known.Contains($"{pod.Metadata.NamespaceProperty}/{n}"));
            if (wanted is null)
                continue;
            V1PodCondition? condition = (pod.Status?.Conditions ?? []).FirstOrDefault(c =>
                c.Status == "False" && !string.IsNullOrEmpty(c.Message)
            );
            string said = condition?.Message ?? "no condition says why";
            yield return new(
                $"pod {pod.Metadata.NamespaceProperty}/{pod.Metadata.Name}",
                "DoesNotStart",
                $"It wants claim {wanted}: {Words.Sentence(said)}",
                StartWords.FixOf(
                    said,
                    wanted,
                    $"kubectl pci explain {wanted}, then kubectl describe pod; docs/kubevirt.md has what its events mean."
                )
            );
        }
    }

    private static IEnumerable<Finding> OfDevice(DeviceView device)
    {
        string where = $"{device.Node} {device.Address}";
        foreach (string problem in device.Problems ?? [])
        {
            string type = problem.Split(':')[0];
            yield return new(where, type, Words.Sentence(problem), OfDevices.GetValueOrDefault(type) ?? $"See {Hosts}.");
        }

        if (device is { Spec: not null, Claim: null, State: "unavailable", Reason: { } reason } && !IsBecauseOfAClaim(reason))
        {
            string fix =
                device.WithheldBy is { } word && OfWithheld.TryGetValue(word, out string? known)
                    ? string.Format(null, known, device.Node, device.Address)
                : reason.Contains("no device spec matches", StringComparison.Ordinal)
                    ? "Name the whole IOMMU group in PciDeviceSpecs, or say companions: allow in the one of the device that is wanted."
                : "End that use on the host, or leave the device out of the PciDeviceSpec; docs/design/guards.md has what frees a device.";
            yield return new(where, device.WithheldBy ?? "NotOffered", $"{device.Name} is not offered: {Words.Sentence(reason)}", fix);
        }
    }

    // A PF and its VFs exclude each other: the agent's words, and the allocator's.
    private static bool IsBecauseOfAClaim(string reason) =>
        reason.Contains("is given away", StringComparison.Ordinal) || reason.Contains("belongs to a claim", StringComparison.Ordinal);
}
