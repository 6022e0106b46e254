using System.Collections.Frozen;
using System.Text;

namespace PciOperator.Core;

/// <summary>Names of resource classes, as Nova makes them from a spec's <c>resource_class</c>.</summary>
public static class ResourceClass
{
    private static readonly FrozenSet<string> Standard = FrozenSet.Create(
        StringComparer.Ordinal,
        "VCPU",
        "MEMORY_MB",
        "DISK_GB",
        "PCI_DEVICE",
        "SRIOV_NET_VF",
        "NUMA_SOCKET",
        "NUMA_CORE",
        "NUMA_THREAD",
        "NUMA_MEMORY_MB",
        "IPV4_ADDRESS",
        "VGPU",
        "VGPU_DISPLAY_HEAD",
        "NET_BW_EGR_KILOBIT_PER_SEC",
        "NET_BW_IGR_KILOBIT_PER_SEC",
        "PCPU",
        "MEM_ENCRYPTION_CONTEXT",
        "FPGA",
        "PGPU",
        "NET_PACKET_RATE_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC"
    );

    /// <summary>
    /// A standard class or one that begins with <c>CUSTOM_</c>, in upper case; anything else becomes
    /// <c>CUSTOM_</c> and its upper-case letters and digits, with one underscore for each run of others.
    /// </summary>
    public static string Normalize(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        string upper = name.ToUpperInvariant();
        if (Standard.Contains(upper))
            return upper;
        return upper.StartsWith("CUSTOM_", StringComparison.Ordinal) ? Words("", upper) : Words("CUSTOM_", name);
    }

    /// <summary>The class of a device whose spec names none: <c>CUSTOM_PCI_8086_10CA</c>.</summary>
    public static string Default(PciId vendor, PciId product) => $"CUSTOM_PCI_{vendor.Value:X4}_{product.Value:X4}";

    internal static string Words(string prefix, string text)
    {
        var result = new StringBuilder(prefix, prefix.Length + text.Length);
        bool gap = false;
        foreach (char c in text)
        {
            if (char.IsAsciiLetterOrDigit(c) || (c == '_' && prefix.Length == 0))
            {
                result.Append(char.ToUpperInvariant(c));
                gap = false;
            }
            else
            {
                if (!gap)
                    result.Append('_');
                gap = true;
            }
        }

        return result.ToString();
    }
}

/// <summary>Names of traits, as Nova makes them from a spec's <c>traits</c>.</summary>
public static class Trait
{
    /// <summary>Prefixes of the standard traits' names (os-traits).</summary>
    private static readonly string[] StandardPrefixes = ["HW_", "COMPUTE_", "MISC_", "STORAGE_", "OWNER_"];

    /// <summary>
    /// A standard trait or one that begins with <c>CUSTOM_</c> stays, in upper case; anything else becomes <c>CUSTOM_</c>
    /// and its upper-case letters and digits, with one underscore for each run of others. Blanks around don't count.
    /// </summary>
    public static string Normalize(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        string upper = name.Trim().ToUpperInvariant();
        if (upper.StartsWith("CUSTOM_", StringComparison.Ordinal))
            return ResourceClass.Words("", upper);
        foreach (string prefix in StandardPrefixes)
        {
            if (upper.StartsWith(prefix, StringComparison.Ordinal) && ResourceClass.Words("", upper) == upper)
                return upper;
        }

        return ResourceClass.Words("CUSTOM_", upper);
    }

    /// <summary>The traits of a comma list, normalised, without empty ones and without repetitions, in order of name.</summary>
    public static IReadOnlyList<string> ParseList(string list)
    {
        ArgumentNullException.ThrowIfNull(list);
        return NormalizeAll(list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
    }

    /// <summary>The traits normalised, without repetitions, in order of name.</summary>
    internal static IReadOnlyList<string> NormalizeAll(IReadOnlyList<string> traits) =>
        traits.Count == 0 ? [] : [.. traits.Select(Normalize).Distinct().Order(StringComparer.Ordinal)];
}
