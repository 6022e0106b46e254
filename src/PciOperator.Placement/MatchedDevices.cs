using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>
/// How many of a node's devices each spec and alias means, whoever owns them; worked out again only when the hardware or the rules change.
/// </summary>
internal sealed class MatchedDevices
{
    private readonly List<(PciFunction Function, DeviceTags Tags, string Rule)> _devices = [];
    private readonly Dictionary<AliasDefinition, IReadOnlyList<PciAddress>> _byAlias = new(ReferenceEqualityComparer.Instance);

    private MatchedDevices() { }

    /// <summary>No devices.</summary>
    public static MatchedDevices None { get; } = new();

    /// <summary>Devices by spec.</summary>
    public Dictionary<string, int> BySpec { get; } = [];

    /// <summary>The counts for what a node has now; this very object when that is the same.</summary>
    public MatchedDevices Update(NodeInventory node)
    {
        var devices = node.Devices.Where(d => d is { Tags: not null, Rule: not null }).Select(d => (d.Function, d.Tags!, d.Rule!)).ToList();
        if (devices.SequenceEqual(_devices))
            return this;
        var updated = new MatchedDevices();
        updated._devices.AddRange(devices);
        foreach ((PciFunction _, DeviceTags _, string? rule) in devices)
            updated.BySpec[rule] = updated.BySpec.GetValueOrDefault(rule) + 1;
        return updated;
    }

    /// <summary>How many devices an alias means.</summary>
    public int Count(AliasDefinition alias) => Addresses(alias).Count;

    /// <summary>The addresses of devices that an alias means.</summary>
    public IReadOnlyList<PciAddress> Addresses(AliasDefinition alias)
    {
        if (_byAlias.TryGetValue(alias, out IReadOnlyList<PciAddress>? known))
            return known;
        return _byAlias[alias] = [.. _devices.Where(d => alias.Matches(d.Function, d.Tags)).Select(d => d.Function.Address)];
    }

    /// <summary>The type of devices that an alias would mean, but for their type; null: there are none.</summary>
    public DeviceType? OtherType(AliasDefinition alias) =>
        _devices.Select(d => alias.OtherTypeOf(d.Function, d.Tags)).FirstOrDefault(t => t is not (null or DeviceType.Vdpa));
}
