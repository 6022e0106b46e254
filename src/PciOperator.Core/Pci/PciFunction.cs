namespace PciOperator.Core;

/// <summary>One PCI function as a host shows it: what device specs are matched against and what the allocator gives away.</summary>
public sealed record PciFunction
{
    /// <summary>Where it is. Unique on a host.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>sysfs <c>vendor</c>.</summary>
    public required PciId VendorId { get; init; }

    /// <summary>sysfs <c>device</c>, which Nova calls the product id.</summary>
    public required PciId ProductId { get; init; }

    /// <summary>sysfs <c>subsystem_vendor</c>; null when not known.</summary>
    public PciId? SubsystemVendorId { get; init; }

    /// <summary>sysfs <c>subsystem_device</c>; null when not known.</summary>
    public PciId? SubsystemProductId { get; init; }

    /// <summary>Base class, subclass and programming interface, 24 bits (sysfs <c>class</c>): 0x030000 is VGA.</summary>
    public uint ClassCode { get; init; }

    /// <summary>Nova's kind of it.</summary>
    public DeviceType Type { get; init; }

    /// <summary>A VF's (or vDPA's) PF; null for others.</summary>
    public PciAddress? ParentAddress { get; init; }

    /// <summary>The NUMA node, or null when the firmware does not say (the kernel's -1).</summary>
    public int? NumaNode { get; init; }

    /// <summary>The CPU socket (package) of <see cref="NumaNode"/>; null when not known.</summary>
    public int? Socket { get; init; }

    /// <summary>The IOMMU group's number; null without one, and then it can't be given away.</summary>
    public int? IommuGroup { get; init; }

    /// <summary>How many VFs a PF could have (sysfs <c>sriov_totalvfs</c>); 0 for others.</summary>
    public int SriovTotalVfs { get; init; }

    /// <summary>The product id that a PF's VFs have (sysfs <c>sriov_vf_device</c>).</summary>
    public PciId? VfProductId { get; init; }

    /// <summary>The name of its network interface, when it has one.</summary>
    public string? NetDevice { get; init; }

    /// <summary>For a VF: the name of its PF's network interface.</summary>
    public string? ParentNetDevice { get; init; }

    /// <summary>The card's serial number from its VPD (a VF without one has its PF's).</summary>
    public string? CardSerial { get; init; }

    /// <summary>What stays the same when the card moves to another address; see the host's inventory.</summary>
    public string? StableId { get; init; }

    /// <summary>A bridge or root port (class 0604): never given away, and it doesn't block its IOMMU group.</summary>
    public bool IsBridge { get; init; }

    /// <summary>Whether it is a function of an SR-IOV PF: a VF, or a VF with vDPA.</summary>
    public bool IsVirtual => Type is DeviceType.Vf or DeviceType.Vdpa;
}
