using PciOperator.Api;
using PciOperator.Cli.See;
using PciOperator.Cli.Vms;

namespace PciOperator.Cli.Diagnose;

/// <summary>Why a VM doesn't start: its claims first, KubeVirt's setup, its pod, and last what KubeVirt says when nothing else explains it.</summary>
internal static class VmStart
{
    private const string Type = "DoesNotStart";

    // A container that has not begun says so by these, too.
    private static readonly HashSet<string> Beginning = ["ContainerCreating", "PodInitializing"];

    private static readonly HashSet<string> Failing =
    [
        "CrashLoopBackOff",
        "DataVolumeError",
        "ErrImagePull",
        "ErrorDataVolumeNotFound",
        "ErrorPvcNotFound",
        "ErrorUnschedulable",
        "ImagePullBackOff",
    ];

    /// <summary>What keeps a VM that is wanted, and doesn't run.</summary>
    public static IEnumerable<Finding> Of(VmFacts facts, Guest guest, IReadOnlyList<ClaimUse> uses)
    {
        List<Finding> found =
        [
            .. uses.SelectMany(u => OfUse(facts, guest, u)),
            .. VmDiagnosis.ByPlugin(facts, guest).SelectMany(p => OfResource(facts, guest, p.Resource, p.Claim, p.Entries)),
            .. VmGates.Of(facts, guest, uses).Select(p => new Finding(guest.Where, Type, p.Problem, p.Fix)),
        ];
        string claim = NameOf(guest, uses, facts);
        // A pod that waits for a claim says nothing that the claim doesn't say better.
        if (found.Count == 0 && Unschedulable(guest.Launcher) is { } unschedulable)
            found.Add(Said(guest, claim, $"its pod {guest.Launcher!.Metadata.Name} waits for a node", unschedulable));
        found.AddRange(OfContainers(guest, claim));
        if (found.Count == 0 && OfKubeVirt(guest) is var (who, words))
            found.Add(Said(guest, claim, who, words));
        return found;
    }

    private static IEnumerable<Finding> OfUse(VmFacts facts, Guest guest, ClaimUse use)
    {
        string ns = guest.Namespace;
        if (use.Source == ClaimSource.Missing)
        {
            yield return use.Entry.ResourceClaimTemplateName is { Length: > 0 } template
                ? new(
                    guest.Where,
                    Type,
                    $"It names ResourceClaimTemplate {template}, and there is none in namespace {ns}.",
                    Words.Nearest(template, Templates(facts, ns)) is { } meant
                        ? $"ResourceClaimTemplate {meant} is there: name that."
                        : "Make it (config/samples/kubevirt/vm-pool.yaml is one), in the VM's namespace."
                )
                : Missing(facts, guest, use.Entry.ResourceClaimName ?? "");
        }
        else if (use is { Source: ClaimSource.Own, Claim: { } claim })
        {
            foreach (Finding finding in OfClaim(guest, claim))
                yield return finding;
            if (claim.Metadata.DeletionTimestamp is null && ClaimView.Of(claim).Ready && use.Entry.ResourceClaimName is { Length: > 0 })
            {
                if (Undelivered(facts, claim, use) is { } undelivered)
                {
                    yield return new(guest.Where, Type, undelivered.Problem, undelivered.Fix);
                }
                else if (Others(facts, guest, use) is { } others)
                {
                    yield return new(
                        guest.Where,
                        Type,
                        $"Its claim {claim.Metadata.Name} is in use by {others}.",
                        "Devices are opened by one guest at a time: stop that one, or make a claim of its own for this VM (kubectl pci claim create)."
                    );
                }
            }
        }
    }

    private static Finding Missing(VmFacts facts, Guest guest, string name)
    {
        string problem =
            $"It names claim {name}, and there is neither a PassthroughClaim nor a ResourceClaim of that name in namespace {guest.Namespace}.";
        string[] elsewhere =
        [
            .. facts.Claims.Where(c => c.Metadata.Name == name).Select(c => c.Metadata.NamespaceProperty).Order(StringComparer.Ordinal),
        ];
        string? meant = Words.Nearest(
            name,
            facts.Claims.Where(c => c.Metadata.NamespaceProperty == guest.Namespace).Select(c => c.Metadata.Name)
        );
        return new(
            guest.Where,
            Type,
            problem,
            elsewhere.Length > 0
                    ? $"It is in namespace {string.Join(", ", elsewhere)}, and a VM takes claims of its own namespace alone: make the claim in {guest.Namespace}."
                : meant is not null ? $"Claim {meant} is there: name that below spec.template.spec.resourceClaims."
                : $"Make it: kubectl pci claim create {name} -n {guest.Namespace} --alias ALIAS:1. If it is another driver's ResourceClaim, that is to be made."
        );
    }

    private static IEnumerable<Finding> OfClaim(Guest guest, PassthroughClaim claim)
    {
        var view = ClaimView.Of(claim);
        if (claim.Metadata.DeletionTimestamp is not null)
        {
            yield return new(
                guest.Where,
                Type,
                $"Its claim {view.Name} is deleted and not gone, and no pod gets it any more: {Words.Sentence(view.InUse ?? view.Message)}",
                $"When it is gone (kubectl wait --for=delete ptc/{view.Name} -n {view.Namespace}), make it again; the VM goes on by itself."
            );
        }
        else if (!view.Ready)
        {
            string? ready = claim.Status?.Conditions.Find(Conditions.Ready)?.Message;
            yield return new(
                guest.Where,
                Type,
                $"Its claim {view.Name} {(view.Node is null ? "has no node" : $"is on {view.Node} and not ready")}: {Words.Sentence(view.Message ?? ready ?? "its controller has not looked at it")}",
                $"kubectl pci explain {view.Name} -n {view.Namespace} says it node by node."
            );
        }
    }

    /// <summary>A claim that is ready, and not by the way that the VM asks for.</summary>
    private static (string Problem, string Fix)? Undelivered(VmFacts facts, PassthroughClaim claim, ClaimUse use)
    {
        string name = claim.Metadata.Name;
        if (claim.Spec.Delivery == Delivery.DevicePlugin || claim.Status?.ResourceName is { Length: > 0 })
        {
            return (
                $"Its claim {name} is delivered by the device plugin, and the VM asks for it by resourceClaims.",
                $"Ask by deviceName: {claim.Status?.ResourceName ?? "the claim's status.resourceName"} (kubectl pci vm {name} -n {claim.Metadata.NamespaceProperty} writes it), or make the claim with delivery DRA."
            );
        }

        return use.Resource is null && facts.ResourceClaims is not null
            ? (
                $"Its claim {name} is ready, and has no ResourceClaim by which a VM could get it.",
                "Make the claim with delivery DRA: with delivery None (which may be the installation's default) no pod gets its devices."
            )
            : null;
    }

    /// <summary>The pods that have its claim and are not its own.</summary>
    private static string? Others(VmFacts facts, Guest guest, ClaimUse use)
    {
        var others = new List<string>();
        foreach (string pod in (use.Resource?.Status?.ReservedFor ?? []).Where(r => r.Resource == "pods").Select(r => r.Name))
        {
            Guest? owner = facts.Guests.FirstOrDefault(g => g.Namespace == guest.Namespace && g.Launchers.Any(p => p.Metadata.Name == pod));
            // One that is nobody's and is called as ours are is what was there before a restart.
            if (owner is null && !pod.StartsWith($"virt-launcher-{guest.Name}-", StringComparison.Ordinal))
                others.Add($"pod {pod}");
            else if (owner is not null && owner != guest)
                others.Add($"{owner.Where} (pod {pod})");
        }

        return others.Count > 0 ? string.Join(", ", others) : null;
    }

    private static IEnumerable<Finding> OfResource(VmFacts facts, Guest guest, string resource, PassthroughClaim? claim, int entries)
    {
        if (claim is null)
        {
            string? meant = Words.Nearest(resource, facts.Claims.Select(c => c.Status?.ResourceName).OfType<string>());
            yield return new(
                guest.Where,
                Type,
                $"It asks for deviceName {resource}, which is no claim's.",
                meant is not null
                    ? $"{meant} is there: name that."
                    : "A claim with delivery DevicePlugin has its own in status.resourceName once it is placed (kubectl get ptc -o yaml)."
            );
            yield break;
        }

        if (claim.Metadata.NamespaceProperty != guest.Namespace)
        {
            yield return new(
                guest.Where,
                Type,
                $"It asks for deviceName {resource}, which is of namespace {claim.Metadata.NamespaceProperty}: only pods of that get it.",
                $"Make a claim in namespace {guest.Namespace}."
            );
            yield break;
        }

        foreach (Finding finding in OfClaim(guest, claim))
            yield return finding;
        int devices = (claim.Status?.Devices ?? []).Count(d => d.Companion != true);
        if (devices > 0 && entries > devices)
        {
            yield return new(
                guest.Where,
                Type,
                $"It has {Words.Entries(entries)} with deviceName {resource}, and claim {claim.Metadata.Name} has {Counted.Of(devices, "device")}.",
                $"One entry for each device: kubectl pci vm {claim.Metadata.Name} -n {guest.Namespace} writes them."
            );
        }
    }

    private static IEnumerable<Finding> OfContainers(Guest guest, string claim)
    {
        LauncherStatus? status = guest.Launcher?.Status;
        foreach (
            ContainerReport container in (status?.InitContainerStatuses ?? [])
                .Concat(status?.ContainerStatuses ?? [])
                .OfType<ContainerReport>()
        )
        {
            string who = $"container {container.Name} of its pod {guest.Launcher!.Metadata.Name}";
            if (container.State?.Waiting is { Reason: { Length: > 0 } reason } waiting && !Beginning.Contains(reason))
            {
                yield return Said(guest, claim, who, string.IsNullOrEmpty(waiting.Message) ? reason : $"{reason}: {waiting.Message}");
            }
            else if (container.State?.Terminated is { ExitCode: not (null or 0) } ended)
            {
                yield return Said(
                    guest,
                    claim,
                    who,
                    string.Join(
                        ": ",
                        new[] { $"it ended with {ended.ExitCode}", ended.Reason, ended.Message }.Where(t => !string.IsNullOrEmpty(t))
                    )
                );
            }
        }
    }

    private static (string Who, string Words)? OfKubeVirt(Guest guest)
    {
        if (guest.Instance?.Status?.Conditions.Find("Synchronized") is { Status: "False" } unsynchronized)
            return ("KubeVirt", Both(unsynchronized));
        if (guest.Machine?.Status?.Conditions.Find("Failure") is { Status: "True" } failure)
            return ("KubeVirt", Both(failure));
        if (guest.Instance?.Status is { Phase: "Failed" } failed)
            return ("KubeVirt", string.IsNullOrEmpty(failed.Reason) ? "the instance has failed" : failed.Reason);
        return guest.Machine?.Status?.PrintableStatus is { } printable && Failing.Contains(printable) ? ("KubeVirt", printable) : null;

        static string Both(GuestCondition condition) =>
            string.IsNullOrEmpty(condition.Message) ? condition.Reason ?? "" : condition.Message;
    }

    private static string? Unschedulable(LauncherPod? pod) =>
        pod?.Status is { Phase: "Pending" } status
        && status.Conditions.Find("PodScheduled") is { Status: "False", Message: { Length: > 0 } said }
            ? said
            : null;

    private static Finding Said(Guest guest, string claim, string who, string said) =>
        new(
            guest.Where,
            Type,
            $"{Words.Capital(who)}: {Words.Sentence(said)}",
            StartWords.FixOf(
                said,
                claim,
                $"kubectl describe vmi {guest.Name} -n {guest.Namespace}, and its virt-launcher pod; docs/kubevirt.md has what they say."
            )
        );

    private static string NameOf(Guest guest, IReadOnlyList<ClaimUse> uses, VmFacts facts) =>
        uses.Select(u => u.Claim)
            .Concat(VmDiagnosis.ByPlugin(facts, guest).Select(p => p.Claim))
            .OfType<PassthroughClaim>()
            .FirstOrDefault()
            is { } claim
            ? $"{claim.Metadata.Name} -n {guest.Namespace}"
            : $"CLAIM -n {guest.Namespace}";

    private static IEnumerable<string> Templates(VmFacts facts, string ns) =>
        (facts.Templates ?? []).Where(t => t.Metadata.NamespaceProperty == ns).Select(t => t.Metadata.Name);
}
