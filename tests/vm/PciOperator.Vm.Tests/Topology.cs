namespace PciOperator.Vm.Tests;

/// <summary>
/// The guest's hardware: two NUMA nodes, each with its own PCIe root, behind an emulated VT-d. Addresses are the same at
/// every boot. Devices sit behind root ports, which have ACS, so that each port's devices are an IOMMU group of their own.
/// </summary>
internal static class Topology
{
    /// <summary>82576 (igb, 8086:10c9, seven VFs 8086:10ca) on NUMA node 0.</summary>
    public const string Nic0 = "0000:21:00.0";

    /// <summary>82576 on NUMA node 1.</summary>
    public const string Nic1 = "0000:81:00.0";

    /// <summary>The first VF of <see cref="Nic0"/>, once it is made (SR-IOV offset 128, stride 2).</summary>
    public const string Nic0FirstVf = "0000:21:10.0";

    /// <summary>The first VF of <see cref="Nic1"/>.</summary>
    public const string Nic1FirstVf = "0000:81:10.0";

    /// <summary>NVMe (1b36:0010, four VFs) on NUMA node 0.</summary>
    public const string Nvme = "0000:22:00.0";

    /// <summary>
    /// Two devices behind one conventional bridge, one group: edu (1234:11e8) and pci-testdev (1b36:0005), which cannot be reset.
    /// </summary>
    public const string Edu = "0000:24:01.0",
        TestDevice = "0000:24:02.0";

    /// <summary>e1000e (8086:10d3) with two functions and no ACS between them: one group, on NUMA node 1.</summary>
    public const string DualNic0 = "0000:82:00.0",
        DualNic1 = "0000:82:00.1";

    /// <summary>Where a device lands that is added to <see cref="HotPlugPort"/>.</summary>
    public const string HotPlugged = "0000:83:00.0";

    /// <summary>The id of the empty hot-plug port on NUMA node 1.</summary>
    public const string HotPlugPort = "port-hotplug";

    /// <summary>The guest's own NIC (virtio), which carries its route.</summary>
    public const string HostNic = "0000:01:00.0";

    /// <param name="memoryMiB">All of the guest's memory, half on each NUMA node.</param>
    /// <param name="cpus">Even: half on each NUMA node.</param>
    /// <param name="nvmeImage">A raw file for the NVMe's namespace.</param>
    /// <param name="hardware">What differs from the standard machine.</param>
    public static IEnumerable<string> Arguments(int memoryMiB, int cpus, string nvmeImage, Hardware hardware)
    {
        const string sriovWindow = "mem-reserve=4M,pref64-reserve=32M"; // room for the VFs' BARs
        int vfs = hardware.NvmeVfs;
        string[] lines =
        [
            $"-machine q35 -accel tcg,thread={(hardware.OneThread ? "single" : "multi")} -cpu max,la57=off -m {memoryMiB}M -smp {cpus},sockets=2",
            $"-object memory-backend-ram,id=memory0,size={memoryMiB / 2}M -object memory-backend-ram,id=memory1,size={memoryMiB / 2}M",
            $"-numa node,nodeid=0,memdev=memory0,cpus=0-{cpus / 2 - 1} -numa node,nodeid=1,memdev=memory1,cpus={cpus / 2}-{cpus - 1}",
            // The IOMMU comes before every device that it translates for.
            "-device intel-iommu,intremap=on,caching-mode=on",
            "-device pxb-pcie,id=root0,bus=pcie.0,addr=0x10,bus_nr=0x20,numa_node=0",
            "-device pxb-pcie,id=root1,bus=pcie.0,addr=0x11,bus_nr=0x80,numa_node=1",
            $"-device pcie-root-port,id=port0,bus=root0,chassis=1,slot=0,addr=0,{sriovWindow}",
            "-device igb,id=nic0,bus=port0,romfile=,mac=52:54:00:00:00:01",
            $"-device pcie-root-port,id=port1,bus=root0,chassis=1,slot=1,addr=1,{sriovWindow}",
            $"-device nvme-subsys,id=subsystem0,nqn=subsystem0 -drive file={nvmeImage},if=none,id=namespace0,format=raw",
            // Two queues and one interrupt for each VF, two queues for the PF.
            $"-device nvme,id=nvme0,bus=port1,serial=NVME0,subsys=subsystem0,sriov_max_vfs={vfs},sriov_vq_flexible={vfs * 2},sriov_vi_flexible={vfs},max_ioqpairs={vfs * 2 + 2},msix_qsize={vfs + 5}",
            "-device nvme-ns,drive=namespace0,bus=nvme0,nsid=1,shared=on",
            "-device pcie-root-port,id=port2,bus=root0,chassis=1,slot=2,addr=2",
            "-device pcie-pci-bridge,id=bridge0,bus=port2 -device edu,bus=bridge0,addr=1 -device pci-testdev,bus=bridge0,addr=2",
            $"-device pcie-root-port,id=port3,bus=root1,chassis=2,slot=0,addr=0,{sriovWindow}{(hardware.Nic1WithoutAcs ? ",disable-acs=on" : "")}",
            $"-device {hardware.Nic1Model},id=nic1,bus=port3,romfile=,mac=52:54:00:00:00:02",
            "-device pcie-root-port,id=port4,bus=root1,chassis=2,slot=1,addr=1",
            "-device e1000e,bus=port4,romfile=,addr=0.1 -device e1000e,bus=port4,romfile=,addr=0.0,multifunction=on",
            $"-device pcie-root-port,id={HotPlugPort},bus=root1,chassis=2,slot=2,addr=2,io-reserve=4K,{sriovWindow}",
            "-device pcie-root-port,id=port5,bus=pcie.0,chassis=0,slot=0,addr=2",
            "-device virtio-rng-pci,bus=pcie.0",
        ];
        return lines.SelectMany(line => line.Split(' '));
    }

    /// <summary>
    /// The guest's network: nothing but the API server on the host's loopback, as 10.0.2.100:6443.
    /// `restrict=on` keeps the guest from everything else; one process a connection, since `guestfwd=…-tcp:` serves only the first.
    /// </summary>
    public static IEnumerable<string> NetworkArguments(string busybox, int? apiServerPort) =>
        [
            "-netdev",
            "user,id=network0,restrict=on"
                + (apiServerPort is { } port ? $",guestfwd=tcp:10.0.2.100:6443-cmd:{busybox} nc 127.0.0.1 {port}" : ""),
            "-device",
            "virtio-net-pci,netdev=network0,bus=port5,romfile=,mac=52:54:00:00:00:aa",
        ];
}

/// <summary>What a machine has instead of the standard parts.</summary>
internal sealed record Hardware
{
    public static Hardware Standard { get; } = new();

    /// <summary>The card at <see cref="Topology.Nic1"/>, as QEMU names it.</summary>
    public string Nic1Model { get; init; } = "igb";

    /// <summary>The port above <see cref="Topology.Nic1"/> has no ACS: the card's PF and VFs, and the port, are one IOMMU group.</summary>
    public bool Nic1WithoutAcs { get; init; }

    /// <summary>How many VFs <see cref="Topology.Nvme"/> can have.</summary>
    public int NvmeVfs { get; init; } = 4;

    /// <summary>Processors take turns on one thread: where dozens of devices come and go at once, QEMU 10 can end with an assertion
    /// (iotlb_to_section) when they have threads of their own.</summary>
    public bool OneThread { get; init; }
}
