using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>
/// Keys that <c>tags</c> may not hold, because a field says it or the device does. In Nova such a tag replaces the
/// pool's own key, and the pool then lies.
/// </summary>
internal static class ReservedTags
{
    private const string DeviceSaysIt = "the device itself says it";
    private const string AliasNamesNoPlace =
        "an alias says what a device is, not where; a claim's nodeName, nodeSelector and numaNodes say where";
    private const string SpecSaysIt = "how a device is kept is for its PciDeviceSpec to say";

    private static readonly (string[] Keys, string Instead)[] OfSpecs =
    [
        (["vendor_id", "vendorId"], "use devices[].vendorId"),
        (["product_id", "productId"], "use devices[].productId"),
        (["address"], "use devices[].address"),
        (["devname", "device_name", "deviceName"], "use devices[].deviceName"),
        (["physical_network", "physicalNetwork"], "use physicalNetwork beside tags"),
        (["trusted"], "use trusted beside tags"),
        (["managed"], "use managed beside tags"),
        (["remote_managed", "remoteManaged"], "use remoteManaged beside tags"),
        (["live_migratable", "liveMigratable"], "use liveMigratable beside tags"),
        (["one_time_use", "oneTimeUse"], "use oneTimeUse beside tags"),
        (["resource_class", "resourceClass"], "use resourceClass beside tags"),
        (["traits"], "use the list traits beside tags"),
        (["numa_node", "numaNode"], DeviceSaysIt),
        (["dev_type", "device_type", "deviceType"], DeviceSaysIt),
        (["parent_ifname", "parent_addr", "rp_uuid", "count"], DeviceSaysIt),
    ];

    private static readonly (string[] Keys, string Instead)[] OfAliases =
    [
        (["vendor_id", "vendorId"], "use vendorId beside tags"),
        (["product_id", "productId"], "use productId beside tags"),
        (["dev_type", "device_type", "deviceType"], "use deviceType beside tags"),
        (["physical_network", "physicalNetwork"], "use physicalNetwork beside tags"),
        (["trusted"], "use trusted beside tags"),
        (["remote_managed", "remoteManaged"], "use remoteManaged beside tags"),
        (["resource_class", "resourceClass"], "use resourceClass beside tags"),
        (["traits"], "use the list traits beside tags"),
        (["live_migratable", "liveMigratable"], "use the alias' spec.liveMigratable"),
        (["numa_policy", "numaPolicy"], "use the alias' spec.numaPolicy"),
        (["capability_type"], "leave it out, every device here is a PCI device"),
        (["managed", "one_time_use", "oneTimeUse"], SpecSaysIt),
        (["address", "devname", "deviceName", "numa_node", "numaNode", "parent_ifname", "parent_addr"], AliasNamesNoPlace),
        (["rp_uuid", "count"], "a claim's request says how many"),
    ];

    /// <summary>One rule for each of a spec's keys.</summary>
    internal static IEnumerable<CelRule<T>> RulesOfSpec<T>(Func<T, IReadOnlyDictionary<string, string>?> tags)
        where T : class => OfSpecs.Select(reserved => Rule(reserved.Keys, reserved.Instead, tags));

    /// <summary>One rule for each of an alias' keys.</summary>
    internal static IEnumerable<CelRule<T>> RulesOfAlias<T>(Func<T, IReadOnlyDictionary<string, string>?> tags)
        where T : class => OfAliases.Select(reserved => Rule(reserved.Keys, reserved.Instead, tags));

    private static CelRule<T> Rule<T>(string[] keys, string instead, Func<T, IReadOnlyDictionary<string, string>?> tags)
        where T : class =>
        new(
            $"!has(self.tags) || !({string.Join(" || ", keys.Select(key => $"'{key}' in self.tags"))})",
            $"{(keys is [var one] ? one + " can't be a tag" : $"{string.Join(", ", keys[..^1])} and {keys[^1]} can't be tags")}: {instead}",
            self => tags(self) is not { } given || !keys.Any(given.ContainsKey)
        )
        {
            FieldPath = ".tags",
        };
}
