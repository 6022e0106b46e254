using System.Text.Json.Serialization;

namespace PciOperator.Core;

/// <summary>What a PCI function is, in Nova's four kinds and words.</summary>
public enum DeviceType
{
    /// <summary><c>type-PCI</c>: no SR-IOV.</summary>
    [JsonStringEnumMemberName("type-PCI")]
    Pci,

    /// <summary><c>type-PF</c>: an SR-IOV physical function, also while it has no VFs.</summary>
    [JsonStringEnumMemberName("type-PF")]
    Pf,

    /// <summary><c>type-VF</c>: an SR-IOV virtual function.</summary>
    [JsonStringEnumMemberName("type-VF")]
    Vf,

    /// <summary><c>vdpa</c>: a VF with a vDPA device on it. Seen and shown; never given away.</summary>
    [JsonStringEnumMemberName("vdpa")]
    Vdpa,
}

/// <summary>A NUMA affinity policy, as Nova defines them.</summary>
public enum NumaPolicy
{
    /// <summary>On a NUMA node of the guest, or on a device without a known node. The default.</summary>
    [JsonStringEnumMemberName("legacy")]
    Legacy,

    /// <summary>On a NUMA node of the guest if there is one, else anywhere.</summary>
    [JsonStringEnumMemberName("preferred")]
    Preferred,

    /// <summary>On a NUMA node of the guest, never on a device whose node is unknown.</summary>
    [JsonStringEnumMemberName("required")]
    Required,

    /// <summary>On a NUMA node that shares a socket with one of the guest's.</summary>
    [JsonStringEnumMemberName("socket")]
    Socket,
}

/// <summary>Nova's device states. Derived from owners each time, never stored as a fact of their own.</summary>
public enum DeviceState
{
    /// <summary>Free.</summary>
    [JsonStringEnumMemberName("available")]
    Available,

    /// <summary>Given to a claim; not bound yet.</summary>
    [JsonStringEnumMemberName("claimed")]
    Claimed,

    /// <summary>Bound for its claim.</summary>
    [JsonStringEnumMemberName("allocated")]
    Allocated,

    /// <summary>Not offered: a guard refused it, it is quarantined, or its PF or one of its VFs is allocated.</summary>
    [JsonStringEnumMemberName("unavailable")]
    Unavailable,

    /// <summary>Its PF, or one of its VFs, is claimed.</summary>
    [JsonStringEnumMemberName("unclaimable")]
    Unclaimable,

    /// <summary>Gone from the bus while a claim holds it; in Nova's ledger also gone, or without a spec, and nobody's.</summary>
    [JsonStringEnumMemberName("removed")]
    Removed,
}

/// <summary>Nova's spellings of <see cref="DeviceType"/>, <see cref="NumaPolicy"/> and <see cref="DeviceState"/>.</summary>
public static class NovaWords
{
    /// <summary>Nova's word: <c>type-PCI</c>, <c>type-PF</c>, <c>type-VF</c> or <c>vdpa</c>.</summary>
    public static string ToNova(this DeviceType type) =>
        type switch
        {
            DeviceType.Pci => "type-PCI",
            DeviceType.Pf => "type-PF",
            DeviceType.Vf => "type-VF",
            DeviceType.Vdpa => "vdpa",
            _ => throw new ArgumentOutOfRangeException(nameof(type)),
        };

    /// <summary>Nova's word: <c>legacy</c>, <c>preferred</c>, <c>required</c> or <c>socket</c>.</summary>
    public static string ToNova(this NumaPolicy policy) =>
        policy switch
        {
            NumaPolicy.Legacy => "legacy",
            NumaPolicy.Preferred => "preferred",
            NumaPolicy.Required => "required",
            NumaPolicy.Socket => "socket",
            _ => throw new ArgumentOutOfRangeException(nameof(policy)),
        };

    /// <summary>
    /// Nova's word: <c>available</c>, <c>claimed</c>, <c>allocated</c>, <c>unavailable</c>, <c>unclaimable</c> or <c>removed</c>.
    /// </summary>
    public static string ToNova(this DeviceState state) =>
        state switch
        {
            DeviceState.Available => "available",
            DeviceState.Claimed => "claimed",
            DeviceState.Allocated => "allocated",
            DeviceState.Unavailable => "unavailable",
            DeviceState.Unclaimable => "unclaimable",
            DeviceState.Removed => "removed",
            _ => throw new ArgumentOutOfRangeException(nameof(state)),
        };

    /// <summary>Reads Nova's word for a device type, exactly as Nova spells it.</summary>
    public static bool TryParseDeviceType(string? text, out DeviceType type)
    {
        (bool known, type) = text switch
        {
            "type-PCI" => (true, DeviceType.Pci),
            "type-PF" => (true, DeviceType.Pf),
            "type-VF" => (true, DeviceType.Vf),
            "vdpa" => (true, DeviceType.Vdpa),
            _ => (false, default),
        };
        return known;
    }

    /// <summary>Reads Nova's word for a NUMA policy, exactly as Nova spells it.</summary>
    public static bool TryParseNumaPolicy(string? text, out NumaPolicy policy)
    {
        (bool known, policy) = text switch
        {
            "legacy" => (true, NumaPolicy.Legacy),
            "preferred" => (true, NumaPolicy.Preferred),
            "required" => (true, NumaPolicy.Required),
            "socket" => (true, NumaPolicy.Socket),
            _ => (false, default),
        };
        return known;
    }

    /// <summary>Nova's word for a device type.</summary>
    /// <exception cref="FormatException">It is none; the message lists them.</exception>
    public static DeviceType ParseDeviceType(string text) =>
        TryParseDeviceType(text, out DeviceType type)
            ? type
            : throw new FormatException($"'{Text.Shorten(text)}' is not a device type; expected type-PCI, type-PF, type-VF or vdpa.");

    /// <summary>Nova's word for a NUMA policy.</summary>
    /// <exception cref="FormatException">It is none; the message lists them.</exception>
    public static NumaPolicy ParseNumaPolicy(string text) =>
        TryParseNumaPolicy(text, out NumaPolicy policy)
            ? policy
            : throw new FormatException($"'{Text.Shorten(text)}' is not a NUMA policy; expected required, socket, preferred or legacy.");
}
