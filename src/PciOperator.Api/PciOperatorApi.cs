using PciOperator.Core;

namespace PciOperator.Api;

/// <summary>The group, version and well-known names of PciOperator's resources.</summary>
public static class PciOperatorApi
{
    /// <summary>The API group.</summary>
    public const string Group = "pcioperator.io";

    /// <summary>The version.</summary>
    public const string Version = "v1alpha1";

    /// <summary>Group and version as objects carry them.</summary>
    public const string GroupVersion = Group + "/" + Version;

    /// <summary>The finalizer that keeps a claim until its devices are back on their host drivers.</summary>
    public const string ClaimFinalizer = Group + "/release";

    /// <summary>The finalizer that keeps a PciNode while devices of its node are given away.</summary>
    public const string NodeFinalizer = Group + "/assignments";

    /// <summary>
    /// The annotation by which an administrator frees used-once devices on a PciNode: their addresses, separated by commas. The controller
    /// removes it when it is done.
    /// </summary>
    public const string FreeAnnotation = Group + "/free";

    /// <summary>The condition that the controller sets on the core Node; its message lists the node's pools.</summary>
    public const string NodeConditionType = "PciPassthroughReady";

    /// <summary>The devices that a value of <see cref="FreeAnnotation"/> names; what is not an address names none.</summary>
    public static IReadOnlyList<PciAddress> FreedBy(string? value) =>
        [
            .. (value ?? "")
                .Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
                .Where(a => PciAddress.TryParse(a, out _))
                .Select(PciAddress.Parse)
                .Distinct(),
        ];
}
