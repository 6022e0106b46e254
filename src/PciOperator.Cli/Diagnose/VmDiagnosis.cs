using PciOperator.Api;
using PciOperator.Cli.Vms;

namespace PciOperator.Cli.Diagnose;

/// <summary>VMs that have to do with our devices: why one doesn't start, and why a device is not in the guest. Pure.</summary>
internal static class VmDiagnosis
{
    /// <summary>Everything that is wrong with VMs.</summary>
    /// <param name="facts">What there is to know.</param>
    /// <param name="node">Only VMs that are on that node, or whose claim is; null: all.</param>
    public static IEnumerable<Finding> Of(VmFacts facts, string? node)
    {
        foreach (Guest guest in facts.Guests.Where(g => g.IsToRun))
        {
            IReadOnlyList<ClaimUse> uses = ClaimUse.Of(facts, guest);
            if (!IsOurs(guest, uses) || (node is not null && !IsOn(facts, guest, uses, node)))
                continue;
            foreach (Finding finding in guest.Runs ? [] : VmStart.Of(facts, guest, uses))
                yield return finding;
            foreach (Finding finding in VmDevices.Of(facts, guest, uses))
                yield return finding;
        }
    }

    /// <summary>The claims by which the device plugin serves a VM, each with the VM's entries for it.</summary>
    public static IEnumerable<(string Resource, PassthroughClaim? Claim, int Entries)> ByPlugin(VmFacts facts, Guest guest) =>
        guest
            .Wanted.Devices.Where(d => d.IsByOurPlugin)
            .GroupBy(d => d.DeviceName!)
            .Select(g => (g.Key, facts.Claims.FirstOrDefault(c => c.Status?.ResourceName == g.Key), g.Count()));

    private static bool IsOurs(Guest guest, IReadOnlyList<ClaimUse> uses) =>
        uses.Any(u => u.Source is not ClaimSource.Other) || guest.Wanted.Devices.Any(d => d.IsByOurPlugin);

    private static bool IsOn(VmFacts facts, Guest guest, IReadOnlyList<ClaimUse> uses, string node) =>
        guest.Node is { } its
            ? its == node
            : uses.Select(u => u.Claim).Concat(ByPlugin(facts, guest).Select(p => p.Claim)).Any(c => c?.Status?.NodeName == node);
}
