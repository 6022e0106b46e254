using System.Text.Json.Serialization;

namespace PciOperator.Core;

/// <summary>The driver that a claimed device is bound to.</summary>
public enum BindDriver
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
