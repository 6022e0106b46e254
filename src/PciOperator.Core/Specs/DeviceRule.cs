using System.Collections.ObjectModel;
using System.Text.Json.Serialization;

namespace PciOperator.Core;

/// <summary>Whether members of a device's IOMMU group that no device spec matches may go with it.</summary>
public enum CompanionPolicy
{
    /// <summary>No: such a group is not offered. The default.</summary>
    [JsonStringEnumMemberName("refuse")]
    Refuse,

    /// <summary>Yes.</summary>
    [JsonStringEnumMemberName("allow")]
    Allow,
}

/// <summary>What a device spec says of the devices that it matches; most of it is part of the pool's key.</summary>
public sealed record DeviceTags
{
    /// <summary>No tags.</summary>
    public static DeviceTags None { get; } = new();

    /// <summary>The physical network that the NIC is wired to (Nova's <c>physical_network</c>).</summary>
    public string? PhysicalNetwork { get; init; }

    /// <summary>Whether its VFs may be made trusted.</summary>
    public bool Trusted
    {
        get => TrustedStated ?? false;
        init => TrustedStated = value;
    }

    /// <summary>
    /// Managed by a SmartNIC's own operating system: reached only by aliases that ask for it, and only with a card serial.
    /// </summary>
    public bool RemoteManaged
    {
        get => RemoteManagedStated ?? false;
        init => RemoteManagedStated = value;
    }

    /// <summary>Whether the device can be live migrated; null: not said, which matches neither of an alias' two answers.</summary>
    public bool? LiveMigratable { get; init; }

    /// <summary>Stays reserved after one use until an administrator frees it.</summary>
    public bool OneTimeUse
    {
        get => OneTimeUseStated ?? false;
        init => OneTimeUseStated = value;
    }

    /// <summary>Bound when claimed and given back when released; false: the administrator binds it.</summary>
    public bool Managed
    {
        get => ManagedStated ?? true;
        init => ManagedStated = value;
    }

    /// <summary>
    /// The resource class, normalised (see <see cref="Core.ResourceClass"/>); null: <c>CUSTOM_PCI_VENDOR_PRODUCT</c>. Not part of the
    /// pool's key.
    /// </summary>
    public string? ResourceClass
    {
        get;
        init => field = value is null ? null : Core.ResourceClass.Normalize(value);
    }

    /// <summary>Traits, normalised and in order. Not part of the pool's key.</summary>
    public IReadOnlyList<string> Traits
    {
        get;
        init => field = Trait.NormalizeAll(value);
    } = [];

    /// <summary>What happens with members of the IOMMU group that no spec matches.</summary>
    public CompanionPolicy Companions { get; init; }

    /// <summary>
    /// Any other tags, kept as written; part of the pool's key, and never able to replace one of its own (Nova lets them).
    /// </summary>
    public IReadOnlyDictionary<string, string> Other { get; init; } = ReadOnlyDictionary<string, string>.Empty;

    /// <summary>As the spec says it; null: not said. A pool's key has only what was said.</summary>
    internal bool? TrustedStated { get; init; }

    internal bool? RemoteManagedStated { get; init; }

    internal bool? OneTimeUseStated { get; init; }

    internal bool? ManagedStated { get; init; }
}

/// <summary>One PciDeviceSpec as it applies to a node, or one of Nova's <c>device_spec</c> values.</summary>
public sealed record DeviceRule
{
    /// <summary>The PciDeviceSpec's name.</summary>
    public required string Name { get; init; }

    /// <summary>Any of them.</summary>
    public IReadOnlyList<DeviceSelector> Selectors { get; init; } = [];

    /// <summary>What it says of them.</summary>
    public DeviceTags Tags { get; init; } = DeviceTags.None;

    /// <summary>Whether the rule means this function.</summary>
    /// <param name="f">The function.</param>
    /// <param name="host">The host's function at an address, or null.</param>
    /// <remarks>
    /// A remote-managed device needs a card serial in its VPD; and a rule for remote-managed devices that names one PF
    /// means that PF's VFs, not the PF (Nova's intent: the PF belongs to the SmartNIC). Where both have the one product id that it
    /// gives, it means both, as in Nova: the PF is remote-managed then, and no later rule can offer it as if it were not.
    /// </remarks>
    public bool Matches(PciFunction f, Func<PciAddress, PciFunction?> host)
    {
        ArgumentNullException.ThrowIfNull(f);
        if (Tags.RemoteManaged && string.IsNullOrEmpty(f.CardSerial))
            return false;
        foreach (DeviceSelector selector in Selectors)
        {
            if (
                selector.Matches(f, host)
                && !(
                    Tags.RemoteManaged
                    && f.Type == DeviceType.Pf
                    && (selector.FullAddress is not null || selector.DeviceName is not null)
                    && (selector.ProductId is null || selector.ProductId != f.VfProductId)
                )
            )
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary>Which rule a host's functions fall under.</summary>
public static class DeviceMatcher
{
    /// <summary>
    /// The first rule, in the order given, that matches each function; a function without one is not in the answer. Nothing is merged.
    /// </summary>
    /// <param name="host">All of the host's functions.</param>
    /// <param name="rules">Highest priority first.</param>
    public static IReadOnlyDictionary<PciAddress, DeviceRule> Match(IReadOnlyList<PciFunction> host, IReadOnlyList<DeviceRule> rules)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(rules);
        var byAddress = new Dictionary<PciAddress, PciFunction>(host.Count);
        foreach (PciFunction f in host)
            byAddress[f.Address] = f;
        var matched = new Dictionary<PciAddress, DeviceRule>();
        foreach (PciFunction f in host)
        {
            foreach (DeviceRule rule in rules)
            {
                if (rule.Matches(f, a => byAddress.GetValueOrDefault(a)))
                {
                    matched[f.Address] = rule;
                    break;
                }
            }
        }

        return matched;
    }
}
