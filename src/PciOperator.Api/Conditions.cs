using k8s.Models;

namespace PciOperator.Api;

/// <summary>Condition lists (KEP-1623): set without touching what has not changed.</summary>
public static class Conditions
{
    /// <summary>Every claim's: whether a node was found.</summary>
    public const string Scheduled = "Scheduled";

    /// <summary>Every claim's: whether its devices are bound and verified.</summary>
    public const string Prepared = "Prepared";

    /// <summary>Every claim's: whether a VM or pod can use it now.</summary>
    public const string Ready = "Ready";

    /// <summary>Every claim's that is Prepared: whether pods use it, and which.</summary>
    public const string InUse = "InUse";

    /// <summary>
    /// Claims', specs' and aliases': True when a person has to look, since nothing that goes on by itself makes it right; otherwise absent. With
    /// it tools that know only kstatus' conditions tell what has failed from what takes time.
    /// </summary>
    public const string Stalled = "Stalled";

    /// <summary>Specs' and aliases': whether they can be used.</summary>
    public const string Accepted = "Accepted";

    /// <summary>Specs': whether every node that one is for has room for it; absent: it has never been otherwise.</summary>
    public const string Applied = "Applied";

    /// <summary>PciNodes': whether the kernel has an IOMMU on.</summary>
    public const string IommuEnabled = "IommuEnabled";

    /// <summary>PciNodes': whether devices can be bound to VFIO.</summary>
    public const string VfioReady = "VfioReady";

    /// <summary>PciNodes': whether the kubelet has registered the agent's DRA plugin, so that it can hand devices to pods.</summary>
    public const string KubeletRegistered = "KubeletRegistered";

    /// <summary>PciNodes': whether the devices in status are what the node has.</summary>
    public const string InventoryReady = "InventoryReady";

    /// <summary>PciNodes': whether there are more devices than status can hold.</summary>
    public const string InventoryTruncated = "InventoryTruncated";

    /// <summary>PciNodes': whether no device that may be given away reports anything wrong.</summary>
    public const string DevicesHealthy = "DevicesHealthy";

    /// <summary>PciNodes': whether a device that a claim holds is gone, moved or swapped for another.</summary>
    public const string DriftDetected = "DriftDetected";

    /// <summary>The longest message that the schema takes.</summary>
    private const int LongestMessage = 32768;

    /// <summary>A list with one condition set; the transition time moves only when the status does.</summary>
    public static IReadOnlyList<V1Condition> With(
        this IReadOnlyList<V1Condition>? conditions,
        string type,
        bool? status,
        string reason,
        string message,
        long? generation,
        DateTimeOffset now
    )
    {
        string word = status switch
        {
            true => "True",
            false => "False",
            null => "Unknown",
        };
        V1Condition? old = conditions.Find(type);
        // Times on the wire have whole seconds: what is written must read back equal.
        DateTime since =
            old is not null && old.LastTransitionTime != default && old.Status == word
                ? old.LastTransitionTime
                : DateTimeOffset.FromUnixTimeSeconds(now.ToUnixTimeSeconds()).UtcDateTime;
        var condition = new V1Condition
        {
            Type = type,
            Status = word,
            Reason = reason,
            Message = message.Length > LongestMessage ? message[..LongestMessage] : message,
            ObservedGeneration = generation,
            LastTransitionTime = since,
        };

        return old is null ? [.. conditions ?? [], condition] : [.. conditions!.Select(c => c.Type == type ? condition : c)];
    }

    /// <summary>A list that says <see cref="Stalled"/>, or does not.</summary>
    public static IReadOnlyList<V1Condition> WithStalled(
        this IReadOnlyList<V1Condition>? conditions,
        bool stalled,
        string reason,
        string message,
        long? generation,
        DateTimeOffset now
    ) => stalled ? conditions.With(Stalled, true, reason, message, generation, now) : conditions.Without(Stalled) ?? [];

    /// <summary>A list without one condition.</summary>
    public static IReadOnlyList<V1Condition>? Without(this IReadOnlyList<V1Condition>? conditions, string type) =>
        conditions.Find(type) is null ? conditions : [.. conditions!.Where(c => c.Type != type)];

    /// <summary>The condition of a type, or null.</summary>
    public static V1Condition? Find(this IReadOnlyList<V1Condition>? conditions, string type) =>
        conditions?.FirstOrDefault(c => c.Type == type);

    /// <summary>Whether a condition is there and True.</summary>
    public static bool IsTrue(this IReadOnlyList<V1Condition>? conditions, string type) => conditions.Find(type)?.Status == "True";
}
