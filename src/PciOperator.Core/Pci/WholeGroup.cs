namespace PciOperator.Core;

/// <summary>What it means that an IOMMU group goes as a whole: one rule, for who decides, who shows and who binds.</summary>
/// <remarks>
/// Who takes a group takes each endpoint in it. Bridges stay the host's, and VFs whose PF is taken too end with that: nobody names them, no
/// device spec has to match them, and where a VF is in its PF's own group it can't be given away by itself.
/// </remarks>
public static class WholeGroup
{
    /// <summary>Whether who takes the function's group must take the function itself.</summary>
    /// <param name="function">A function of the group.</param>
    /// <param name="isTaken">Whether the PF at an address is taken.</param>
    public static bool IsMember(PciFunction function, Func<PciAddress, bool> isTaken)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(isTaken);
        return !function.IsBridge && !(function is { IsVirtual: true, ParentAddress: { } pf } && isTaken(pf));
    }

    /// <summary>Whether the function is a VF in its PF's group, and so goes only with that.</summary>
    /// <param name="function">Any function.</param>
    /// <param name="find">The function at an address; null: none is known.</param>
    public static bool GoesWithPf(PciFunction function, Func<PciAddress, PciFunction?> find)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(find);
        return function is { IsVirtual: true, ParentAddress: { } pf, IommuGroup: { } group } && find(pf)?.IommuGroup == group;
    }

    /// <summary>Why such a VF is not offered.</summary>
    public static string WhyNotAlone(PciFunction vf)
    {
        ArgumentNullException.ThrowIfNull(vf);
        return $"its IOMMU group {vf.IommuGroup} goes as a whole, and its PF {vf.ParentAddress} is in it: it ends when that is taken (no port or switch above the card has ACS on, which would part them)";
    }

    /// <summary>
    /// Why a PF that an administrator binds (managed: false) is not taken with a VF in its group: its VFs are the administrator's too.
    /// </summary>
    public static string WhyNotWithVfs(PciAddress pf, PciAddress vf) =>
        $"its PciDeviceSpec says managed: false, and its VF {vf} is in its IOMMU group: remove its VFs first (echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs)";
}
