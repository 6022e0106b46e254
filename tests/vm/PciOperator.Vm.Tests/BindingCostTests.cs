using System.Globalization;

namespace PciOperator.Vm.Tests;

/// <summary>
/// What journal, guards and read-back cost against a script that only writes the same files, with as many VFs as the machine gives.
/// </summary>
public sealed class BindingCostTests(ITestOutputHelper output)
{
    private const int NicVfs = 7;

    // Few, unless every case is asked for: each costs a second of an emulated machine.
    private static readonly int NvmeVfs = TestScope.All ? 64 : 16;

    [VmFact]
    public async Task Every_VF_of_the_machine_is_bound_and_given_back_all_at_once_and_one_by_one()
    {
        await using VirtualMachine machine = await VirtualMachine.StartAsync(
            new()
            {
                Name = "many-vfs",
                StateDisk = true,
                Hardware = new() { NvmeVfs = NvmeVfs, OneThread = true },
                Shares = new Dictionary<string, string> { ["guest"] = Path.GetDirectoryName(Lab.Published("vm-guest"))! },
            }
        );
        // The NVMe's VFs are not online, so that its driver only fails on them, one after the other.
        await machine.OutputOfAsync(
            $"""
            cd /sys/bus/pci/devices
            echo {NicVfs} > {Topology.Nic0}/sriov_numvfs
            echo {NicVfs} > {Topology.Nic1}/sriov_numvfs
            echo 0 > {Topology.Nvme}/sriov_drivers_autoprobe
            echo {NvmeVfs} > {Topology.Nvme}/sriov_numvfs
            """,
            TimeSpan.FromMinutes(2)
        );

        int rounds = Environment.GetEnvironmentVariable("PCI_TEST_ROUNDS") is { Length: > 0 } text
            ? int.Parse(text, CultureInfo.InvariantCulture)
            : 1;
        string report = await machine.OutputOfAsync(
            $"/mnt/guest/pcioperator-vm-guest measure /var/lib/pcioperator {rounds} | tee /dev/console",
            TimeSpan.FromMinutes(10)
        );
        output.WriteLine(report);
        Assert.StartsWith($"{NvmeVfs + 2 * NicVfs} VFs: ", report);
        Assert.EndsWith("\nmeasured", report);
    }
}
