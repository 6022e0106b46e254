namespace PciOperator.Core.Tests;

/// <summary>
/// Judges by trying everything: written from the rules alone, without the allocator's classes, counts or theorems. For
/// hosts of about ten devices and claims of about five.
/// </summary>
internal sealed class BruteForce
{
    private readonly List<NodeDevice> _devices;
    private readonly Dictionary<int, int?> _sockets;
    private readonly ClaimRequirements _claim;
    private readonly List<DeviceRequest> _units;

    public BruteForce(List<NodeDevice> devices, Dictionary<int, int?> sockets, ClaimRequirements claim)
    {
        (_devices, _sockets, _claim) = (devices, sockets, claim);
        _units = [.. claim.Requests.SelectMany(r => Enumerable.Repeat(r, r.Count))];
    }

    /// <summary>Whether some assignment serves the claim.</summary>
    /// <param name="preferencesMet">Whether those that a policy <c>preferred</c> covers must be where they prefer.</param>
    public bool Feasible(bool preferencesMet) => Places().Any(place => Assign(0, [], place, preferencesMet));

    /// <summary>Every allocation that serves the claim, as all that goes along with it; some of them more than once.</summary>
    public IEnumerable<HashSet<PciAddress>> Allocations() => Places().SelectMany(place => All(0, [], place)).Select(WholeOf);

    /// <summary>What is wrong with an allocation; null when nothing is.</summary>
    public string? Fault(NodeAllocation allocation)
    {
        if (allocation.Devices.Select(d => d.Address).Distinct().Count() != allocation.Devices.Count)
            return "a device is given twice";
        var given = new Dictionary<NodeDevice, DeviceRequest>();
        foreach (AllocatedDevice d in allocation.Devices.Where(d => !d.Companion))
            given[At(d.Address)!] = _claim.Requests.Single(r => r.Name == d.Request);
        foreach (DeviceRequest r in _claim.Requests)
        {
            if (given.Values.Count(g => g == r) != r.Count)
                return $"request {r.Name} has not its count";
        }

        if (!Valid(given.Keys))
            return "the devices can't go together";
        if (!Places().Any(p => given.All(g => Allows(g.Value, g.Key, p, false))))
            return "a device is not what its request asks for, or not where";
        if (!WholeOf(given.Keys).SetEquals(allocation.Devices.Select(d => d.Address)))
            return "an IOMMU group does not go as a whole";
        int[] numa = [.. given.Keys.Select(d => d.Function.NumaNode).OfType<int>().Distinct().Order()];
        if (!numa.SequenceEqual(allocation.NumaNodes))
            return "the NUMA nodes are not those of the devices";
        bool asked = _claim.GuestNuma.Kind != GuestNumaKind.None && _claim.Requests.Any(r => Policy(r) == NumaPolicy.Preferred);
        if (allocation.NumaPreferenceMet is { } met != asked)
            return "whether the preference is met is said when it should not be, or the other way round";
        return null;
    }

    private NumaPolicy Policy(DeviceRequest r) => r.NumaPolicy ?? _claim.NumaPolicy ?? r.Alias.NumaPolicy;

    private NodeDevice? At(PciAddress address) => _devices.Find(d => d.Function.Address == address);

    // Where the guest might sit: its nodes, or any one node that the devices could put it on.
    private List<int[]> Places() =>
        _claim.GuestNuma.Kind == GuestNumaKind.Unknown
            ?
            [
                [],
                .. _sockets.Keys.Select(n => new[] { n }),
            ]
            :
            [
                [.. _claim.GuestNuma.Nodes],
            ];

    private bool Assign(int unit, HashSet<NodeDevice> taken, int[] place, bool preferencesMet)
    {
        if (unit == _units.Count)
            return true;
        foreach (NodeDevice d in _devices)
        {
            if (taken.Contains(d) || !Allows(_units[unit], d, place, preferencesMet))
                continue;
            taken.Add(d);
            if (Valid(taken) && Assign(unit + 1, taken, place, preferencesMet))
                return true;
            taken.Remove(d);
        }

        return false;
    }

    private IEnumerable<HashSet<NodeDevice>> All(int unit, HashSet<NodeDevice> taken, int[] place)
    {
        if (unit == _units.Count)
        {
            yield return taken;
            yield break;
        }

        foreach (NodeDevice d in _devices)
        {
            if (taken.Contains(d) || !Allows(_units[unit], d, place, false))
                continue;
            HashSet<NodeDevice> more = [.. taken, d];
            if (!Valid(more))
                continue;
            foreach (HashSet<NodeDevice> all in All(unit + 1, more, place))
                yield return all;
        }
    }

    // These devices with the rest of their groups.
    private HashSet<PciAddress> WholeOf(IEnumerable<NodeDevice> given)
    {
        HashSet<int?> groups = [.. given.Select(d => d.Function.IommuGroup)];
        HashSet<PciAddress> whole =
        [
            .. _devices.Where(d => !d.Function.IsBridge && groups.Contains(d.Function.IommuGroup)).Select(d => d.Function.Address),
        ];
        whole.RemoveWhere(a => At(a)!.Function is { Type: DeviceType.Vf or DeviceType.Vdpa, ParentAddress: { } pf } && whole.Contains(pf));
        return whole;
    }

    private bool Allows(DeviceRequest request, NodeDevice d, int[] place, bool preferencesMet)
    {
        if (d.Tags is null || d.Function.IsBridge || !IsAskedFor(request.Alias, d))
            return false;
        if (_claim.GuestNuma.Kind == GuestNumaKind.None)
            return true;
        int? node = d.Function.NumaNode;
        bool local = node is not null && place.Contains(node.Value);
        bool socketsKnown = _sockets.Values.All(s => s is not null);
        return Policy(request) switch
        {
            NumaPolicy.Required => local,
            NumaPolicy.Preferred => local || !preferencesMet,
            NumaPolicy.Socket => local
                || (node is not null && socketsKnown && place.Any(p => _sockets.TryGetValue(p, out int? s) && s == _sockets[node.Value])),
            _ => _claim.GuestNuma.Kind == GuestNumaKind.Unknown || local || node is null,
        };
    }

    private static bool IsAskedFor(AliasDefinition alias, NodeDevice d)
    {
        DeviceTags tags = d.Tags!;
        if (alias.LiveMigratable is not null && alias.LiveMigratable != tags.LiveMigratable)
            return false;
        return alias.AnyOf.Any(s =>
            (s.VendorId ?? d.Function.VendorId) == d.Function.VendorId
            && (s.ProductId ?? d.Function.ProductId) == d.Function.ProductId
            && (s.Type is null ? d.Function.Type is DeviceType.Pci or DeviceType.Vf : s.Type == d.Function.Type)
            && (s.RemoteManaged == true) == tags.RemoteManaged
            && (s.PhysicalNetwork is null || s.PhysicalNetwork.Equals(tags.PhysicalNetwork, StringComparison.OrdinalIgnoreCase))
        );
    }

    // Whether these devices of free, whole groups can go to one claim.
    private bool Valid(IEnumerable<NodeDevice> taken)
    {
        HashSet<int> groups = [];
        foreach (NodeDevice d in taken)
        {
            if (d.Function.IommuGroup is not { } group)
                return false;
            groups.Add(group);
        }

        List<NodeDevice> members = [.. _devices.Where(d => !d.Function.IsBridge && d.Function.IommuGroup is { } g && groups.Contains(g))];
        // A VF in its PF's group ends when that goes: it counts with its PF, below.
        members.RemoveAll(d => members.Exists(pf => IsVfOf(d, pf) && pf.Function.IommuGroup == d.Function.IommuGroup));
        foreach (NodeDevice m in members)
        {
            if (m.Owner is not null || m.BlockedReason is not null)
                return false;
            // A PF goes only when no VF of it is someone's; a VF only when its PF is nobody's.
            if (_devices.Any(v => IsVfOf(v, m) && (v.Owner is not null || (v.BlockedReason is not null && v.BlocksPf))))
                return false;
            if (_devices.Any(pf => IsVfOf(m, pf) && pf.Owner is not null))
                return false;
            if (
                m.Tags is null
                && taken.Any(t => t.Function.IommuGroup == m.Function.IommuGroup && t.Tags!.Companions == CompanionPolicy.Refuse)
            )
            {
                return false;
            }
        }

        return taken.All(members.Contains) && !taken.Any(vf => members.Any(pf => IsVfOf(vf, pf)));
    }

    private static bool IsVfOf(NodeDevice vf, NodeDevice pf) =>
        vf.Function.Type is DeviceType.Vf or DeviceType.Vdpa && vf.Function.ParentAddress == pf.Function.Address;
}
