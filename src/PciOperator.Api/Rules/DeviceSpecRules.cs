using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

public sealed partial record PciDeviceSpecSpec : IHasCelRules<PciDeviceSpecSpec>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<PciDeviceSpecSpec>> Rules { get; } =
    [
        FieldRule.Labels<PciDeviceSpecSpec>("nodeSelector", s => s.NodeSelector),
        FieldRule.Matches<PciDeviceSpecSpec>(
            "resourceClass",
            s => s.ResourceClass,
            ClassRules.ResourceClass,
            ClassRules.ResourceClassMessage
        ),
        FieldRule.AllMatch<PciDeviceSpecSpec>("traits", s => s.Traits, ClassRules.Trait, ClassRules.TraitMessage),
        .. ReservedTags.RulesOfSpec<PciDeviceSpecSpec>(s => s.Tags),
    ];
}

public sealed partial record DeviceSelectorSpec : IHasCelRules<DeviceSelectorSpec>
{
    private const string IdOrAny = @"^([*]|(0[xX])?[0-9a-fA-F]{1,4})$";

    // Domain up to ffffffff, since VMD has domains above ffff (Nova: ffff); bus ff, slot 1f, function 7 (Nova's limits, and PCI's).
    private const string AddressGlob = "^((([0-9a-fA-F]{1,8}|[*])?:)?([0-9a-fA-F]{1,2}|[*])?:)?([01]?[0-9a-fA-F]|[*])?([.]([0-7]|[*])?)?$";

    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<DeviceSelectorSpec>> Rules { get; } =
    [
        FieldRule.Matches<DeviceSelectorSpec>(
            "vendorId",
            d => d.VendorId,
            IdOrAny,
            "a vendorId is up to four hexadecimal digits such as 8086, or * for any; the device's own id goes into productId"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "productId",
            d => d.ProductId,
            IdOrAny,
            "a productId is up to four hexadecimal digits such as 10c9, or * for any; the vendor's id goes into vendorId"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "subsystemVendorId",
            d => d.SubsystemVendorId,
            IdOrAny,
            "a subsystemVendorId is up to four hexadecimal digits such as 8086, or * for any"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "subsystemProductId",
            d => d.SubsystemProductId,
            IdOrAny,
            "a subsystemProductId is up to four hexadecimal digits such as 0001, or * for any"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "classCode",
            d => d.ClassCode,
            "^([0-9a-fA-F]{2}){1,3}$",
            "a classCode is two, four or six hexadecimal digits: 02 for network controllers, 0200 for Ethernet, 020000 with the programming interface"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "address",
            d => d.Address,
            AddressGlob,
            "an address is domain:bus:slot.function in hexadecimal, with * or nothing for any part (bus up to ff, slot up to 1f, function up to 7): 0000:21:00.0, *:81:*.* or 21:00.; a network interface's name goes into deviceName"
        ),
        FieldRule.Matches<DeviceSelectorSpec>(
            "deviceName",
            d => d.DeviceName,
            "^[!-.0-9;-~]{1,15}$",
            "a deviceName is the name of one network interface such as ens3f0, at most 15 characters; a PCI address goes into address"
        ),
        new(
            "(has(self.address) ? 1 : 0) + (has(self.addressPattern) ? 1 : 0) + (has(self.deviceName) ? 1 : 0) <= 1",
            "give only one of address, addressPattern and deviceName: each says by itself which device it is",
            d => (d.Address is null ? 0 : 1) + (d.AddressPattern is null ? 0 : 1) + (d.DeviceName is null ? 0 : 1) <= 1
        ),
    ];
}

public sealed partial record AddressPatternSpec : IHasCelRules<AddressPatternSpec>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<AddressPatternSpec>> Rules { get; } =
    [
        .. Of("domain", "0000", p => p.Domain),
        .. Of("bus", "2[01]", p => p.Bus),
        .. Of("slot", "1[0-7]", p => p.Slot),
        .. Of("function", "[02]", p => p.Function),
    ];

    private static CelRule<AddressPatternSpec>[] Of(string part, string example, Func<AddressPatternSpec, string?> value) =>
        [
            FieldRule.IsRegularExpression(part, value, $"{part} is not a regular expression; an example of one is {example}"),
            new(
                string.Format("!has({0}) || !{0}.contains(':') || {0}.contains('(?')", "self." + FieldRule.Name(part)),
                $"{part} is a regular expression for the {part} alone, such as {example}; a whole address goes into address",
                p => value(p) is not { } text || !text.Contains(':') || text.Contains("(?", StringComparison.Ordinal)
            )
            {
                FieldPath = "." + part,
            },
        ];
}

public sealed partial record GuardOverride : IHasCelRules<GuardOverride>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<GuardOverride>> Rules { get; } =
    [
        FieldRule.Matches<GuardOverride>(
            "nodeName",
            o => o.NodeName,
            FieldRule.DnsSubdomain,
            "a guard override is for one node: give its name, such as worker-3"
        ),
        FieldRule.Matches<GuardOverride>(
            "address",
            o => o.Address,
            "^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f][.][0-7]$",
            "a guard override is for one device: give its full address in lower case, such as 0000:21:00.0, without *"
        ),
        FieldRule.Matches<GuardOverride>(
            "ids",
            o => o.Ids,
            "^[0-9a-f]{4}:[0-9a-f]{4}$",
            "ids are the vendor's and the device's id, four lower-case hexadecimal digits each, such as 8086:10c9"
        ),
        new(
            "has(self.ids) || has(self.serial)",
            "a guard override needs the device's identity too, ids (such as 8086:10c9) or serial: addresses move when cards are added",
            o => o.Ids is not null || o.Serial is not null
        ),
    ];
}

/// <summary>What specs and aliases say in the same words.</summary>
internal static class ClassRules
{
    internal const string ResourceClass = "^[A-Za-z0-9_]+$";

    internal const string ResourceClassMessage = "a resource class is letters, digits and '_', such as CUSTOM_GPU_A100 or PGPU";

    internal const string Trait = "^[^,]*[^, ][^,]*$";

    internal const string TraitMessage =
        "traits is a list: give each trait as an item of its own, such as HW_GPU_API_VULKAN, without commas";
}
