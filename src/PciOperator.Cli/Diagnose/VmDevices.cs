using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Vms;

namespace PciOperator.Cli.Diagnose;

/// <summary>Why a device is not in the guest although the VM has the claim: what its entries name, and what runs of them.</summary>
internal static class VmDevices
{
    private const string Type = "NotInGuest";

    /// <summary>What is wrong with a VM's entries for devices.</summary>
    public static IEnumerable<Finding> Of(VmFacts facts, Guest guest, IReadOnlyList<ClaimUse> uses)
    {
        GuestDevice[] entries = [.. guest.Wanted.Devices.Where(d => d.ClaimName is { Length: > 0 })];
        foreach (
            (string problem, string fix) in OfNames(guest, uses, entries)
                .Concat(uses.Where(u => u.Source == ClaimSource.Own).SelectMany(u => OfUse(guest, u, entries)))
                .Concat(OfResources(facts, guest))
                .Concat(guest.Runs ? OfRunning(facts, guest, uses) : [])
        )
        {
            yield return new(guest.Where, Type, problem, fix);
        }
    }

    private static IEnumerable<(string Problem, string Fix)> OfNames(Guest guest, IReadOnlyList<ClaimUse> uses, GuestDevice[] entries)
    {
        string[] known = [.. uses.Select(u => u.Entry.Name ?? "")];
        foreach (GuestDevice entry in entries.Where(e => !known.Contains(e.ClaimName)))
        {
            yield return (
                $"Entry {entry.Name} has claimName {entry.ClaimName}, which is none of the VM's resourceClaims.",
                known.Length == 0 ? "Add one below spec.template.spec.resourceClaims; its name goes into claimName."
                : Words.Nearest(entry.ClaimName, known) is { } meant ? $"claimName {meant} is there. {Restart(guest)}"
                : $"resourceClaims has {string.Join(", ", known)}: the name of one of these, not the claim's own. {Restart(guest)}"
            );
        }
    }

    private static IEnumerable<(string Problem, string Fix)> OfUse(Guest guest, ClaimUse use, GuestDevice[] entries)
    {
        string[] asked = [.. entries.Where(e => e.ClaimName == use.Entry.Name).Select(e => e.RequestName ?? "")];
        string[] names = [.. use.Names.Select(n => n.Name)];
        string[] own = [.. use.Names.Where(n => !n.IsCompanion).Select(n => n.Name)];
        string write = use.Claim is { } claim ? $" (kubectl pci vm {claim.Metadata.Name} -n {guest.Namespace} writes them)" : "";
        if (asked.Length == 0)
        {
            yield return (
                $"It has {use.Named} as {use.Entry.Name} in resourceClaims, and no entry below gpus or hostDevices uses it.",
                $"Add one for each device, with claimName {use.Entry.Name} and requestName {string.Join(", ", own)}{write}. {Restart(guest)}"
            );
            yield break;
        }

        string[] unknown = [.. asked.Where(a => !names.Contains(a) && !MayComeAlong(use, a))];
        foreach (string request in unknown)
        {
            yield return (
                $"It asks for requestName {(request.Length > 0 ? request : "(none)")} of {use.Named}, which has {string.Join(", ", names)}.",
                (Words.Nearest(request, names.Except(asked)) is { } meant ? $"requestName {meant} is there" : "Name one of those")
                    + $"{write}. {Restart(guest)}"
            );
        }

        string[] left = [.. own.Except(asked)];
        // An unknown name is most likely meant for one of these, which is said above.
        if (left.Length > unknown.Length)
        {
            yield return (
                $"{Words.Capital(use.Named)} has {string.Join(", ", own)}, and the VM has no entry for {string.Join(", ", left)}.",
                $"Add one for each, with claimName {use.Entry.Name}{write}. {Restart(guest)}"
            );
        }
    }

    // Of a claim without devices nobody knows what comes along with them.
    private static bool MayComeAlong(ClaimUse use, string request) =>
        use.Claim?.Status?.Devices is not { Count: > 0 }
        && use.Names.Any(n => request.StartsWith($"{n.Name}-companion-", StringComparison.Ordinal));

    private static IEnumerable<(string Problem, string Fix)> OfResources(VmFacts facts, Guest guest)
    {
        foreach ((string resource, PassthroughClaim? claim, int entries) in VmDiagnosis.ByPlugin(facts, guest))
        {
            int devices = (claim?.Status?.Devices ?? []).Count(d => d.Companion != true);
            if (claim is not null && entries < devices)
            {
                yield return (
                    $"Claim {claim.Metadata.Name} has {Counted.Of(devices, "device")}, and the VM {Words.Entries(entries)} with deviceName {resource}.",
                    $"One entry for each device (kubectl pci vm {claim.Metadata.Name} -n {guest.Namespace} writes them). {Restart(guest)}"
                );
            }
        }
    }

    private static IEnumerable<(string Problem, string Fix)> OfRunning(VmFacts facts, Guest guest, IReadOnlyList<ClaimUse> uses)
    {
        HashSet<string> own = ClaimUse.OwnEntries(uses);
        string[] later =
        [
            .. guest
                .Wanted.Devices.Where(d => (d.ClaimName is { } claim && own.Contains(claim)) || d.IsByOurPlugin)
                .Except(guest.Instance?.Spec?.Devices ?? [])
                .Select(d => d.Name ?? "?"),
        ];
        if (later.Length > 0)
        {
            string? said = guest.Machine?.Status?.Conditions.Find("RestartRequired") is { Status: "True" } condition
                ? condition.Message
                : null;
            yield return (
                $"{(later.Length == 1 ? "Entry" : "Entries")} {string.Join(", ", later)} came into the VM after it had started, and what runs is as it was then{(string.IsNullOrEmpty(said) ? "." : $" (KubeVirt: {Words.Sentence(said)})")}",
                $"Restart it: virtctl restart {guest.Name} -n {guest.Namespace}."
            );
            yield break;
        }

        foreach (ClaimUse use in uses)
        {
            if (
                use.Claim is { } claim
                && guest.Launcher is { Status.Phase: "Running" } pod
                && LacksUser(use, pod.Metadata.Name) is { } users
            )
            {
                yield return (
                    $"It runs, and claim {claim.Metadata.Name} is not in use by its pod {pod.Metadata.Name}: {Words.Sentence(users)}",
                    $"The claim was made anew since the VM started, or the VM named another one then. {Restart(guest)}"
                );
            }
        }
    }

    /// <summary>Who has a claim, when a pod is not among them; null: it is, or that can't be said.</summary>
    private static string? LacksUser(ClaimUse use, string pod)
    {
        if (use.Resource is { } resource)
        {
            V1ResourceClaimConsumerReference[] users = [.. resource.Status?.ReservedFor ?? []];
            return users.Any(u => u.Name == pod) ? null
                : users.Length == 0 ? "no pod has it"
                : $"pod {string.Join(", ", users.Select(u => u.Name))} has it";
        }

        V1Condition? inUse = use.Claim?.Status?.Conditions.Find(Conditions.InUse);
        return inUse is { Status: "False" } ? inUse.Message : null;
    }

    private static string Restart(Guest guest) =>
        !guest.Runs ? ""
        : guest.Machine is null ? $"Delete the instance and make it anew (kubectl delete vmi {guest.Name} -n {guest.Namespace})."
        : $"Then restart it: virtctl restart {guest.Name} -n {guest.Namespace}.";
}
