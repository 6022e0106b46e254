namespace PciOperator.Core;

/// <summary>One word each for why a device is not offered although nothing uses it.</summary>
public static class WithheldWords
{
    /// <summary>Its one owner has had it.</summary>
    public const string UsedOnce = "UsedOnce";

    /// <summary>It keeps what its last owner left, until it is made again or its host is rebooted.</summary>
    public const string NotClean = "NotClean";

    /// <summary>It can't be reset, where its spec requires it.</summary>
    public const string NoReset = "NoReset";

    /// <summary>No VFIO driver binds it.</summary>
    public const string CannotBind = "CannotBind";

    /// <summary>A VF whose IOMMU group has its PF.</summary>
    public const string GroupHasPf = "GroupHasPf";

    /// <summary>Its configuration space reads as ones: it is off the bus, or dead.</summary>
    public const string ConfigSpaceGone = "ConfigSpaceGone";

    /// <summary>The kernel has not finished a read of it.</summary>
    public const string NotAnswering = "NotAnswering";

    /// <summary>
    /// Whether a VF that is withheld by a word keeps its PF back too; not so where it only is of no use itself, since it ends when the PF
    /// is given away.
    /// </summary>
    public static bool KeepsPf(string? withheldBy) => withheldBy is not (NotClean or NoReset or CannotBind or GroupHasPf);
}
