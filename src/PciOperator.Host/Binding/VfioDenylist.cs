using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Devices that vfio-pci itself refuses to bind (vfio_pci_dev_in_denylist in drivers/vfio/pci/vfio_pci.c), since a guest could harm the
/// host through them: the probe says OK and binds nothing.
/// </summary>
internal static class VfioDenylist
{
    private static readonly PciId Intel = PciId.Parse("8086");

    // QuickAssist: with the parameter itself, Linux 5.9.
    private static readonly PciId[] QuickAssist = [.. ((string[])["0435", "0443", "19e2", "19e3", "37c8", "37c9"]).Select(PciId.Parse)];

    // DSA and IAX of Sapphire Rapids: Linux 6.10; earlier kernels may have it by an update, which shows at the first attempt.
    private static readonly PciId[] Accelerators = [.. ((string[])["0b25", "0cfe"]).Select(PciId.Parse)];

    /// <summary>Whether vfio-pci refuses the device, as far as can be known without trying.</summary>
    public static bool Refuses(PciFunction f, string kernel, bool? isOff) =>
        isOff != true
        && f.VendorId == Intel
        && (
            (QuickAssist.Contains(f.ProductId) && IsAtLeast(kernel, 5, 9))
            || (Accelerators.Contains(f.ProductId) && IsAtLeast(kernel, 6, 10))
        );

    /// <summary>Why it isn't offered, and what to change.</summary>
    public static string Sentence(PciFunction f) =>
        $"{f.Address} ({f.VendorId}:{f.ProductId}) is on vfio-pci's own list of devices that a guest could harm the host through, so the kernel doesn't bind it: trust its users and load vfio-pci with disable_denylist=1 (options vfio-pci disable_denylist=1 in /etc/modprobe.d, or vfio-pci.disable_denylist=1 on the kernel command line), or leave it to the host.";

    private static bool IsAtLeast(string kernel, int major, int minor)
    {
        string[] parts = kernel.Split('.', '-');
        return parts.Length < 2
            || !int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int hasMajor)
            || !int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int hasMinor)
            || (hasMajor, hasMinor).CompareTo((major, minor)) >= 0;
    }
}
