using PciOperator.Core;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>Which devices may be given away, and how they are kept: what a PciDeviceSpec says, and a rule of a PciNode repeats.</summary>
public abstract record DevicePolicy
{
    /// <summary>The devices, any of these. An empty selector matches every device.</summary>
    [Required, Items(1, 64)]
    public IReadOnlyList<DeviceSelectorSpec> Devices { get; set; } = [];

    /// <summary>
    /// The driver that a claimed device is bound to: `vfio-pci`, `auto` for the kernel's best VFIO variant driver, or `pci-stub` to only
    /// take it from the host.
    /// </summary>
    [Default("\"vfio-pci\"")]
    public BindDriver Driver { get; set; } = BindDriver.VfioPci;

    /// <summary>
    /// True: bound when claimed and given back to its host driver when released. False: an administrator binds it, and a device that is
    /// still on its host driver is refused.
    /// </summary>
    [Default("true")]
    public bool Managed { get; set; } = true;

    /// <summary>Virtual functions to make on matched physical functions.</summary>
    public SriovSpec? Sriov { get; set; }

    /// <summary>Whether the device must be, may be, or is never reset between owners.</summary>
    [Default("\"bestEffort\"")]
    public ResetMode Reset { get; set; } = ResetMode.BestEffort;

    /// <summary>
    /// Whether members of a device's IOMMU group that no spec matches may go with it (`allow`), or keep it from being offered (`refuse`).
    /// </summary>
    [Default("\"refuse\"")]
    public CompanionPolicy Companions { get; set; } = CompanionPolicy.Refuse;

    /// <summary>The physical network behind a NIC: Nova's `physical_network` tag. Aliases can ask for it.</summary>
    [Length(1, 255)]
    public string? PhysicalNetwork { get; set; }

    /// <summary>Whether VFs may be trusted by their guests: Nova's `trusted` tag. Aliases can ask for it.</summary>
    public bool? Trusted { get; set; }

    /// <summary>
    /// Whether a DPU manages the device from the other side: Nova's `remote_managed` tag. Only aliases that ask for it get it, and the card
    /// needs a serial number in its VPD.
    /// </summary>
    public bool? RemoteManaged { get; set; }

    /// <summary>Whether a guest with the device can be live-migrated: Nova's `live_migratable` tag.</summary>
    public bool? LiveMigratable { get; set; }

    /// <summary>Whether a device stays reserved after its first owner until an administrator frees it: Nova's `one_time_use` tag.</summary>
    public bool? OneTimeUse { get; set; }

    /// <summary>The resource class, standard or `CUSTOM_*`; by default `CUSTOM_PCI_VENDOR_PRODUCT`.</summary>
    [Length(1, 255)]
    public string? ResourceClass { get; set; }

    /// <summary>Traits that aliases can ask for.</summary>
    [Items(0, 32), Length(1, 255), ListSet]
    public IReadOnlyList<string>? Traits { get; set; }

    /// <summary>Any other tags, kept as they are; aliases can ask for them. What has a field of its own goes there.</summary>
    [Items(0, 32), Length(0, 255)]
    public IReadOnlyDictionary<string, string>? Tags { get; set; }

    /// <summary>
    /// Devices that a person has decided to give away although a guard refuses them: node, address and identity together.
    /// </summary>
    [Items(0, 16), ListMapKeys("nodeName", "address")]
    public IReadOnlyList<GuardOverride>? GuardOverrides { get; set; }
}

/// <summary>Virtual functions of a physical function.</summary>
public sealed record SriovSpec
{
    /// <summary>How many VFs each matched PF has. Absent: left alone; 0: none. Changed only while no VF of the PF is claimed.</summary>
    [Range(0, 65535)]
    public int? NumVfs { get; set; }

    /// <summary>Whether the host's driver may take new VFs (`sriov_drivers_autoprobe`). Absent: left alone.</summary>
    public bool? DriversAutoprobe { get; set; }
}

/// <summary>One device that is given away although a guard refuses it.</summary>
public sealed partial record GuardOverride
{
    /// <summary>The node's name.</summary>
    [Required, Length(1, 253)]
    public string NodeName { get; set; } = "";

    /// <summary>The device's full address, such as `0000:21:00.0`.</summary>
    [Required, Length(1, 32)]
    public string Address { get; set; } = "";

    /// <summary>The ids that the device must have, such as `8086:10c9`. This or `serial` must be given.</summary>
    [Length(1, 32)]
    public string? Ids { get; set; }

    /// <summary>The serial number that the device must have. This or `ids` must be given.</summary>
    [Length(1, 128)]
    public string? Serial { get; set; }
}

/// <summary>A description of devices; every field that is given must match, and an absent one matches all.</summary>
public sealed partial record DeviceSelectorSpec
{
    /// <summary>PCI vendor id: up to four hexadecimal digits, or `*` for any. Quote it in YAML: `"8086"`.</summary>
    [Length(1, 64)]
    public string? VendorId { get; set; }

    /// <summary>PCI device id: up to four hexadecimal digits, or `*` for any. Quote it in YAML: `"8086"`.</summary>
    [Length(1, 64)]
    public string? ProductId { get; set; }

    /// <summary>Subsystem vendor id: up to four hexadecimal digits, or `*` for any. Quote it in YAML: `"8086"`.</summary>
    [Length(1, 64)]
    public string? SubsystemVendorId { get; set; }

    /// <summary>Subsystem device id: up to four hexadecimal digits, or `*` for any. Quote it in YAML: `"8086"`.</summary>
    [Length(1, 64)]
    public string? SubsystemProductId { get; set; }

    /// <summary>
    /// PCI class: two digits (base class), four (with subclass) or six (with programming interface), such as `"0200"` for Ethernet
    /// controllers.
    /// </summary>
    [Length(1, 64)]
    public string? ClassCode { get; set; }

    /// <summary>
    /// Nova's address glob, `[[[domain]:]bus]:]slot[.function]`, with `*` or nothing for any: `0000:21:00.0`, `*:81:*.*`, `21:00.`. The
    /// full address of a PF means the PF and its VFs.
    /// </summary>
    [Length(1, 64)]
    public string? Address { get; set; }

    /// <summary>Nova's regular expressions for the parts of an address; not together with `address` or `deviceName`.</summary>
    public AddressPatternSpec? AddressPattern { get; set; }

    /// <summary>A network interface of the host, such as `ens3f0`; resolved once and then kept by the device's stable id.</summary>
    [Length(1, 64)]
    public string? DeviceName { get; set; }
}

/// <summary>
/// Regular expressions for the parts of an address, each matched from the start of the zero-padded, lower-case hexadecimal field; absent:
/// any.
/// </summary>
public sealed partial record AddressPatternSpec
{
    /// <summary>For the domain, such as `0000`.</summary>
    [Length(0, 64)]
    public string? Domain { get; set; }

    /// <summary>For the bus, such as `2[01]`.</summary>
    [Length(0, 64)]
    public string? Bus { get; set; }

    /// <summary>For the slot (device), such as `1[0-7]`.</summary>
    [Length(0, 64)]
    public string? Slot { get; set; }

    /// <summary>For the function, such as `[02]`.</summary>
    [Length(0, 64)]
    public string? Function { get; set; }
}
