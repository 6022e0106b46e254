namespace PciOperator.Core;

/// <summary>
/// Which devices of a node can be given away now: the rules of IOMMU groups and of PFs against VFs, from the owners as they are.
/// </summary>
internal sealed class Offers
{
    private readonly IReadOnlyList<NodeDevice> _devices;
    private readonly Dictionary<PciAddress, int> _index;
    private readonly Dictionary<PciAddress, NodeDevice> _takenVf = [];

    public Offers(IReadOnlyList<NodeDevice> devices, Dictionary<PciAddress, int> index)
    {
        (_devices, _index) = (devices, index);
        Reasons = new string?[devices.Count];
        UnspecifiedEndpoints = new PciAddress?[devices.Count];
        foreach (NodeDevice device in devices)
        {
            // Taking a PF ends its VFs: one that is owned or held by a guard keeps its PF from being taken.
            if (
                device is { Function: { IsVirtual: true, ParentAddress: { } parent } }
                && (device.Owner is not null || device is { BlockedReason: not null, BlocksPf: true })
            )
            {
                _takenVf.TryAdd(parent, device);
            }
        }

        var groups = new Dictionary<int, List<int>>();
        Func<PciAddress, PciFunction?> find = address => index.TryGetValue(address, out int at) ? devices[at].Function : null;
        for (int i = 0; i < devices.Count; i++)
        {
            PciFunction f = devices[i].Function;
            if (f.IsBridge)
                Reasons[i] = $"{f.Address} is a bridge";
            else if (f.IommuGroup is not { } group)
                Reasons[i] = $"{f.Address} is in no IOMMU group";
            else if (WholeGroup.GoesWithPf(f, find))
                Reasons[i] = devices[i].BlockedReason ?? WholeGroup.WhyNotAlone(f);
            else if (groups.TryGetValue(group, out List<int>? members))
                members.Add(i);
            else
                groups[group] = [i];
        }

        foreach ((int group, List<int> members) in groups)
            Decide(group, members);
        Groups = groups;
    }

    /// <summary>Why the device at that index is not offered; null when it is.</summary>
    public string?[] Reasons { get; }

    /// <summary>The endpoint that no spec matches and that alone keeps the device from being offered.</summary>
    public PciAddress?[] UnspecifiedEndpoints { get; }

    /// <summary>The members of each IOMMU group: see <see cref="WholeGroup"/>.</summary>
    public IReadOnlyDictionary<int, List<int>> Groups { get; }

    private void Decide(int group, List<int> members)
    {
        string? blocked = null;
        PciAddress? stranger = null;
        foreach (int i in members)
        {
            blocked ??= Own(_devices[i]);
            if (_devices[i].Tags is null)
                stranger ??= _devices[i].Function.Address;
        }

        foreach (int i in members)
        {
            if (_devices[i].Tags is not { } tags)
            {
                Reasons[i] = $"no device spec matches {_devices[i].Function.Address}";
            }
            else if (blocked is not null)
            {
                Reasons[i] = Own(_devices[i]) ?? $"its IOMMU group {group} goes as a whole, and {blocked}";
            }
            else if (stranger is not null && tags.Companions == CompanionPolicy.Refuse)
            {
                Reasons[i] = $"its IOMMU group {group} goes as a whole, and no device spec matches {stranger} in it";
                UnspecifiedEndpoints[i] = stranger;
            }
        }
    }

    private string? Own(NodeDevice d)
    {
        PciAddress address = d.Function.Address;
        if (d.Owner is not null)
            return $"{address} belongs to a claim";
        if (d.BlockedReason is not null)
            return $"{address}: {d.BlockedReason}";
        if (d.Function is { IsVirtual: true, ParentAddress: { } pf } && _index.TryGetValue(pf, out int p) && _devices[p].Owner is not null)
            return $"{address}'s PF {pf} belongs to a claim";
        if (_takenVf.TryGetValue(address, out NodeDevice? vf))
        {
            return vf.Owner is not null
                ? $"{address}'s VF {vf.Function.Address} belongs to a claim"
                : $"{address}'s VF {vf.Function.Address} is held: {vf.BlockedReason}";
        }

        return null;
    }
}
