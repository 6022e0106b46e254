using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>What becomes a part of paths: nothing but what Kubernetes' names can be.</summary>
internal static class ClaimNames
{
    private const int LongestLabel = 63;
    private const int LongestName = 253;

    /// <summary>Whether namespace, name and UID are such names.</summary>
    public static bool AreSafe(ClaimReference claim) =>
        IsLabel(claim.Namespace) && claim.Name.Length <= LongestName && claim.Name.Split('.').All(IsPart) && Journal.IsUid(claim.Uid);

    /// <summary>A DNS label, as namespaces, requests and devices are called.</summary>
    public static bool IsLabel(string name) => name.Length <= LongestLabel && IsPart(name);

    private static bool IsPart(string name) =>
        name.Length > 0 && IsAlphanumeric(name[0]) && IsAlphanumeric(name[^1]) && name.All(c => IsAlphanumeric(c) || c == '-');

    private static bool IsAlphanumeric(char c) => c is (>= 'a' and <= 'z') or (>= '0' and <= '9');
}
