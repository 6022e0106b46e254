namespace PciOperator.Core;

/// <summary>What a PCI function is, in Nova's four kinds.</summary>
public enum DeviceType
{
    /// <summary><c>type-PCI</c>: no SR-IOV.</summary>
    Pci,

    /// <summary><c>type-PF</c>: an SR-IOV physical function, also while it has no VFs.</summary>
    Pf,

    /// <summary><c>type-VF</c>: an SR-IOV virtual function.</summary>
    Vf,

    /// <summary><c>vdpa</c>: a VF with a vDPA device on it.</summary>
    Vdpa,
}

/// <summary>A NUMA affinity policy, as Nova defines them.</summary>
public enum NumaPolicy
{
    /// <summary>On a NUMA node of the guest, or on a device without a known node. The default.</summary>
    Legacy,

    /// <summary>On a NUMA node of the guest if there is one, else anywhere.</summary>
    Preferred,

    /// <summary>On a NUMA node of the guest, never on a device whose node is unknown.</summary>
    Required,

    /// <summary>On a NUMA node that shares a socket with one of the guest's.</summary>
    Socket,
}

/// <summary>Nova's spellings of <see cref="DeviceType"/> and <see cref="NumaPolicy"/>.</summary>
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
