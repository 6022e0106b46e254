using System.Text.Json.Serialization;
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

    /// <summary>The word of a PciNode's device that its one owner has had.</summary>
    public const string UsedOnce = "UsedOnce";

    /// <summary>
    /// The word of a PciNode's device that keeps what its last owner left, until it is made again or its host is rebooted.
    /// </summary>
    public const string NotClean = "NotClean";

    /// <summary>The word of a PciNode's device that can't be reset, where its spec requires it.</summary>
    public const string NoReset = "NoReset";

    /// <summary>The word of a PciNode's device that no VFIO driver binds.</summary>
    public const string CannotBind = "CannotBind";

    /// <summary>The word of a PciNode's VF whose IOMMU group has its PF.</summary>
    public const string GroupHasPf = "GroupHasPf";

    /// <summary>The condition that the controller sets on the core Node; its message lists the node's pools.</summary>
    public const string NodeConditionType = "PciPassthroughReady";

    /// <summary>
    /// Whether a VF that is withheld by a word keeps its PF back too; not so where it only is of no use itself, since it ends when the PF
    /// is given away.
    /// </summary>
    public static bool KeepsPf(string? withheldBy) => withheldBy is not (NotClean or NoReset or CannotBind or GroupHasPf);

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

/// <summary>Nova's device types.</summary>
public enum PciDeviceType
{
    /// <summary>A function without SR-IOV.</summary>
    [JsonStringEnumMemberName("type-PCI")]
    Pci,

    /// <summary>An SR-IOV physical function (also one with no VFs enabled).</summary>
    [JsonStringEnumMemberName("type-PF")]
    PhysicalFunction,

    /// <summary>An SR-IOV virtual function.</summary>
    [JsonStringEnumMemberName("type-VF")]
    VirtualFunction,

    /// <summary>A virtual function with a vDPA device on it. Seen and shown; never given away.</summary>
    [JsonStringEnumMemberName("vdpa")]
    Vdpa,
}

/// <summary>What an alias may ask for: Nova's device types without vdpa.</summary>
public enum PciAliasDeviceType
{
    /// <summary>A function without SR-IOV.</summary>
    [JsonStringEnumMemberName("type-PCI")]
    Pci,

    /// <summary>A whole physical function.</summary>
    [JsonStringEnumMemberName("type-PF")]
    PhysicalFunction,

    /// <summary>A virtual function.</summary>
    [JsonStringEnumMemberName("type-VF")]
    VirtualFunction,
}

/// <summary>Nova's NUMA affinity policies.</summary>
public enum PciNumaPolicy
{
    /// <summary>Devices of the guest's NUMA nodes, or of unknown ones.</summary>
    [JsonStringEnumMemberName("legacy")]
    Legacy,

    /// <summary>Devices of the guest's NUMA nodes where there are enough; any others otherwise.</summary>
    [JsonStringEnumMemberName("preferred")]
    Preferred,

    /// <summary>Devices of the guest's NUMA nodes only.</summary>
    [JsonStringEnumMemberName("required")]
    Required,

    /// <summary>Devices on a socket of the guest's NUMA nodes.</summary>
    [JsonStringEnumMemberName("socket")]
    Socket,
}

/// <summary>The driver that a claimed device is bound to.</summary>
public enum PassthroughDriver
{
    /// <summary>The kernel's generic VFIO driver.</summary>
    [JsonStringEnumMemberName("vfio-pci")]
    VfioPci,

    /// <summary>The best VFIO variant driver that the kernel's modules.alias names for the device, else vfio-pci.</summary>
    [JsonStringEnumMemberName("auto")]
    Auto,

    /// <summary>Only takes the device from the host: such a claim becomes Prepared, never Ready for a VM.</summary>
    [JsonStringEnumMemberName("pci-stub")]
    PciStub,
}

/// <summary>How a device is reset before it is handed out and after it comes back.</summary>
public enum ResetPolicy
{
    /// <summary>Reset where the device can be; note in status where not.</summary>
    [JsonStringEnumMemberName("bestEffort")]
    BestEffort,

    /// <summary>A device that can't be reset is not offered.</summary>
    [JsonStringEnumMemberName("required")]
    Required,

    /// <summary>Never reset by us.</summary>
    [JsonStringEnumMemberName("skip")]
    Skip,
}

/// <summary>What happens to members of a device's IOMMU group that no spec matches.</summary>
public enum CompanionPolicy
{
    /// <summary>The device is not offered.</summary>
    [JsonStringEnumMemberName("refuse")]
    Refuse,

    /// <summary>They go with it.</summary>
    [JsonStringEnumMemberName("allow")]
    Allow,
}

/// <summary>Nova's device states. Derived from owners each time, never stored as a fact of their own.</summary>
public enum PciDeviceState
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

    /// <summary>Gone from the bus while a claim holds it.</summary>
    [JsonStringEnumMemberName("removed")]
    Removed,
}

/// <summary>When a claim is placed.</summary>
public enum BindingMode
{
    /// <summary>As soon as a node can serve it.</summary>
    Immediate,
}

/// <summary>Whether a guest has a NUMA topology when its NUMA nodes are not given.</summary>
public enum GuestNuma
{
    /// <summary>A guest without NUMA: no device is filtered by its NUMA node, whatever the policy.</summary>
    [JsonStringEnumMemberName("none")]
    None,
}

/// <summary>Where a claim is in its life.</summary>
public enum ClaimPhase
{
    /// <summary>Not placed yet; the condition Scheduled says why.</summary>
    Pending,

    /// <summary>Placed on a node; the agent has still to bind its devices.</summary>
    Claimed,

    /// <summary>Bound and verified on its node.</summary>
    Allocated,

    /// <summary>Deleted; its devices are on their way back to the host.</summary>
    Releasing,

    /// <summary>Can't be served as it is; the conditions say why.</summary>
    Failed,
}

/// <summary>Where a node's agent is with one assignment.</summary>
public enum AssignmentState
{
    /// <summary>Being checked and bound.</summary>
    Preparing,

    /// <summary>Every device is bound and verified.</summary>
    Prepared,

    /// <summary>Refused: nothing of it is held, and the reason says why.</summary>
    Rejected,

    /// <summary>On its way back to the host.</summary>
    Releasing,

    /// <summary>
    /// A write to the kernel has not come back, or the host can't be brought back to what it was: the devices are quarantined.
    /// </summary>
    Stuck,
}
