using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Api;

/// <summary>
/// From the resources to the model that decides. A value that can't be meant is a <see cref="SpecFormatException"/> naming its field.
/// </summary>
public static class CoreMapping
{
    /// <summary>A rule of a PciNode, parsed.</summary>
    /// <exception cref="SpecFormatException">A selector can't be parsed.</exception>
    public static DeviceRule ToDeviceRule(this PciNodeRule rule) => ToDeviceRule(rule, rule.Name);

    /// <summary>What a PciDeviceSpec or a rule says, parsed.</summary>
    /// <exception cref="SpecFormatException">A selector can't be parsed.</exception>
    public static DeviceRule ToDeviceRule(this DevicePolicy policy, string name) =>
        new()
        {
            Name = name,
            Selectors = [.. policy.Devices.Select(Selector)],
            Tags = ToTags(policy),
        };

    /// <summary>The tags that a policy gives its devices.</summary>
    public static DeviceTags ToTags(this DevicePolicy policy)
    {
        var tags = new DeviceTags
        {
            PhysicalNetwork = policy.PhysicalNetwork,
            LiveMigratable = policy.LiveMigratable,
            Managed = policy.Managed,
            ResourceClass = policy.ResourceClass,
            Traits = policy.Traits ?? [],
            Companions = policy.Companions,
            Other = policy.Tags ?? DeviceTags.None.Other,
        };
        if (policy.Trusted is { } trusted)
            tags = tags with { Trusted = trusted };
        if (policy.RemoteManaged is { } remote)
            tags = tags with { RemoteManaged = remote };
        return policy.OneTimeUse is { } once ? tags with { OneTimeUse = once } : tags;
    }

    /// <summary>A device of a PciNode's status as the allocator sees it, offered and free as far as nobody says otherwise.</summary>
    /// <param name="device">The device.</param>
    /// <param name="tags">What each rule says, by its name; a rule that is not there gives nothing away.</param>
    public static NodeDevice ToNodeDevice(this PciNodeDevice device, IReadOnlyDictionary<string, DeviceTags> tags)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(tags);
        return new NodeDevice
        {
            Function = new PciFunction
            {
                Address = PciAddress.Parse(device.Address),
                VendorId = PciId.Parse(device.VendorId),
                ProductId = PciId.Parse(device.ProductId),
                SubsystemVendorId = device.SubsystemVendorId is { Length: > 0 } vendor ? PciId.Parse(vendor) : null,
                SubsystemProductId = device.SubsystemProductId is { Length: > 0 } product ? PciId.Parse(product) : null,
                ClassCode = uint.TryParse(device.ClassCode, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out uint code) ? code : 0,
                Type = device.Type,
                ParentAddress = device.ParentAddress is { Length: > 0 } parent ? PciAddress.Parse(parent) : null,
                NumaNode = device.NumaNode,
                Socket = device.Socket,
                IommuGroup = device.IommuGroup,
                SriovTotalVfs = device.TotalVfs ?? 0,
                NetDevice = device.DeviceName,
                CardSerial = device.Serial,
                StableId = device.StableId,
                IsBridge = device.Bridge == true,
            },
            Rule = device.Rule,
            Tags = device.Rule is { } rule ? tags.GetValueOrDefault(rule) : null,
            BlocksPf = WithheldWords.KeepsPf(device.WithheldBy),
        };
    }

    /// <summary>
    /// The host's whole topology, as the agent sees it; null where an older agent says nothing: then what devices say of their own nodes
    /// has to be enough.
    /// </summary>
    public static IReadOnlyDictionary<int, int?>? ToSockets(this PciNodeStatus status)
    {
        ArgumentNullException.ThrowIfNull(status);
        if (status.NumaNodes is not { } nodes)
            return null;
        var sockets = new Dictionary<int, int?>(nodes.Count);
        foreach (PciNodeNumaNode node in nodes)
            sockets[node.Id] = node.Socket;
        return sockets;
    }

    /// <summary>An alias, parsed.</summary>
    /// <exception cref="SpecFormatException">An id can't be parsed.</exception>
    public static AliasDefinition ToDefinition(this PciAlias alias) =>
        new()
        {
            Name = alias.Metadata.Name!,
            AnyOf = [.. alias.Spec.Devices.Select(Device)],
            NumaPolicy = alias.Spec.NumaPolicy,
            LiveMigratable = alias.Spec.LiveMigratable,
        };

    /// <summary>What a claim asks for.</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="alias">Finds an alias by name.</param>
    /// <param name="now">Refusals that are over count no more.</param>
    /// <exception cref="KeyNotFoundException">There is no such alias; the message names it.</exception>
    public static ClaimRequirements ToRequirements(this PassthroughClaim claim, Func<string, AliasDefinition?> alias, DateTimeOffset now) =>
        new()
        {
            ClaimUid = claim.Metadata.Uid!,
            Requests =
            [
                .. claim.Spec.Requests.Select(r => new DeviceRequest
                {
                    Name = r.Name,
                    Alias = alias(r.Alias) ?? throw new KeyNotFoundException(r.Alias),
                    Count = r.Count,
                    NumaPolicy = r.NumaPolicy,
                }),
            ],
            NumaPolicy = claim.Spec.NumaPolicy,
            GuestNuma =
                claim.Spec.GuestNuma == GuestNuma.None ? Core.GuestNuma.None
                : claim.Spec.NumaNodes is { Count: > 0 } nodes ? Core.GuestNuma.On(nodes)
                : Core.GuestNuma.Unknown,
            Excluded = (claim.Status?.Refusals ?? [])
                .Where(r => r.IsInForce(now))
                .SelectMany(r =>
                    r.Addresses.Where(a => PciAddress.TryParse(a, out _)).Select(a => new DeviceExclusion(r.NodeName, PciAddress.Parse(a)))
                )
                .ToHashSet(),
        };

    private static DeviceSelector Selector(DeviceSelectorSpec spec) =>
        DeviceSelector.Parse(
            new DeviceSelectorFields
            {
                VendorId = spec.VendorId,
                ProductId = spec.ProductId,
                SubsystemVendorId = spec.SubsystemVendorId,
                SubsystemProductId = spec.SubsystemProductId,
                ClassCode = spec.ClassCode,
                Address = spec.Address,
                AddressPattern = spec.AddressPattern is { } p ? new AddressPatternFields(p.Domain, p.Bus, p.Slot, p.Function) : null,
                DeviceName = spec.DeviceName,
            }
        );

    private static AliasSelector Device(AliasDevice device) =>
        new()
        {
            VendorId = device.VendorId is { } vendor ? Id("vendorId", vendor) : null,
            ProductId = device.ProductId is { } product ? Id("productId", product) : null,
            Type =
                device.DeviceType is DeviceType.Vdpa
                    ? throw new SpecFormatException(
                        "deviceType",
                        "an alias can't ask for vdpa, which is never given away: type-PCI, type-PF or type-VF."
                    )
                    : device.DeviceType,
            ResourceClass = device.ResourceClass,
            Traits = device.Traits ?? [],
            PhysicalNetwork = device.PhysicalNetwork,
            Trusted = device.Trusted,
            RemoteManaged = device.RemoteManaged,
            Tags = device.Tags ?? DeviceTags.None.Other,
        };

    private static PciId Id(string field, string text) =>
        PciId.TryParse(text, out PciId id)
            ? id
            : throw new SpecFormatException(field, $"'{text}' is not a PCI id: four hexadecimal digits are, such as 8086.");
}
