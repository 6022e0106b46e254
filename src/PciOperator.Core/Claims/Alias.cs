using System.Collections.ObjectModel;

namespace PciOperator.Core;

/// <summary>One description of devices in an alias: a device must have all that is given.</summary>
public sealed record AliasSelector
{
    /// <summary>The vendor id; null is any.</summary>
    public PciId? VendorId { get; init; }

    /// <summary>The product id; null is any.</summary>
    public PciId? ProductId { get; init; }

    /// <summary>
    /// The kind; null is Nova's behaviour for an alias without one: <c>type-PCI</c> and <c>type-VF</c>. PFs and vDPA must be asked for.
    /// </summary>
    public DeviceType? Type { get; init; }

    /// <summary>The resource class, normalised when set; null is any.</summary>
    public string? ResourceClass
    {
        get;
        init => field = value is null ? null : Core.ResourceClass.Normalize(value);
    }

    /// <summary>Traits that the device must have, normalised when set.</summary>
    public IReadOnlyList<string> Traits
    {
        get;
        init => field = Trait.NormalizeAll(value);
    } = [];

    /// <summary>The physical network, compared without case; null is any.</summary>
    public string? PhysicalNetwork { get; init; }

    /// <summary>Whether the device is trusted; null is any.</summary>
    public bool? Trusted { get; init; }

    /// <summary>Whether the device is remote-managed; null is no: such devices must be asked for.</summary>
    public bool? RemoteManaged { get; init; }

    /// <summary>Whether the device can be live migrated; null: what the alias says.</summary>
    public bool? LiveMigratable { get; init; }

    /// <summary>Any other tags, which the device must have with these values, compared without case.</summary>
    public IReadOnlyDictionary<string, string> Tags { get; init; } = ReadOnlyDictionary<string, string>.Empty;
}

/// <summary>A name that claims ask for: any of several device descriptions, with a NUMA policy.</summary>
public sealed record AliasDefinition
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Any of them; their order changes nothing.</summary>
    public required IReadOnlyList<AliasSelector> AnyOf { get; init; }

    /// <summary>Where devices sit, unless a request or claim says otherwise.</summary>
    public NumaPolicy NumaPolicy { get; init; }

    /// <summary>True: only devices tagged so; false: only devices tagged not so; null: any (Nova's rule).</summary>
    public bool? LiveMigratable { get; init; }

    /// <summary>Whether a device is what the alias means, free or not.</summary>
    public bool Matches(PciFunction function, DeviceTags tags)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(tags);
        return new DeviceClass(function, tags).Matches(this);
    }

    /// <summary>
    /// A device's type, where that alone keeps it from being what the alias means, as a PF is where no type is given; null otherwise.
    /// </summary>
    public DeviceType? OtherTypeOf(PciFunction function, DeviceTags tags)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(tags);
        return new DeviceClass(function, tags).OtherTypeOf(this);
    }
}
