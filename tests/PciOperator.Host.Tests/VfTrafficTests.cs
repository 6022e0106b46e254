using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Host.Tests;

/// <summary>VFs' traffic through their PFs, on a simulated host.</summary>
public sealed class VfTrafficTests
{
    private static readonly PciAddress Pf = PciAddress.Parse("0000:21:00.0");
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(3);
    private readonly SimulatedHost _host = LabHosts.Create();
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task Counters_are_by_VF_and_zeros_that_never_were_anything_else_are_none()
    {
        _host.Files.Write("/sys/bus/pci/devices/0000:21:00.0/sriov_numvfs", "2");
        _host.Files.Write("/sys/bus/pci/devices/0000:81:00.0/sriov_numvfs", "2");
        var reader = new VfTrafficReader(_host.Files, _time);
        IReadOnlyList<VfCounters>? read = await reader.ReadAsync(
            [Pf, PciAddress.Parse("0000:81:00.0"), PciAddress.Parse("0000:99:00.0")],
            Limit,
            TestContext.Current.CancellationToken
        );
        Assert.Equal(
            [
                new VfCounters(Pf, 0, PciAddress.Parse("0000:21:10.0"), new VfTraffic(3000, 750, 3_000_000, 750_000, 0, 0)),
                new VfCounters(Pf, 1, PciAddress.Parse("0000:21:10.2"), new VfTraffic(6000, 1500, 6_000_000, 1_500_000, 1, 0)),
            ],
            read
        );

        // Once it has counted it counts: after a reset zeros are zeros.
        _host.Change(Pf.ToString(), f => f.Sriov!.CountedBytes = 0);
        read = await reader.ReadAsync([Pf], Limit, TestContext.Current.CancellationToken);
        Assert.Equal(2, read!.Count);
        Assert.All(read, v => Assert.True(v.Traffic.IsNothing));
        Assert.Empty((await new VfTrafficReader(_host.Files, _time).ReadAsync([Pf], Limit, TestContext.Current.CancellationToken))!);
    }

    [Fact]
    public async Task A_kernel_that_does_not_answer_is_waited_for_once()
    {
        _host.Files.Write("/sys/bus/pci/devices/0000:21:00.0/sriov_numvfs", "2");
        using var held = new ManualResetEventSlim();
        int asked = 0;
        _host.Fault = access =>
        {
            if (!access.Before || !access.Path.EndsWith("/traffic", StringComparison.Ordinal))
                return;
            Interlocked.Increment(ref asked);
            held.Wait(TestContext.Current.CancellationToken);
        };
        var reader = new VfTrafficReader(_host.Files, _time);
        for (int i = 0; i < 2; i++)
        {
            Task<IReadOnlyList<VfCounters>?> reading = reader.ReadAsync([Pf], Limit, TestContext.Current.CancellationToken);
            _time.Advance(Limit);
            Assert.Null(await reading);
        }

        held.Set();
        Assert.Equal(2, (await reader.ReadAsync([Pf], Limit, TestContext.Current.CancellationToken))!.Count);
        Assert.Equal(1, asked);
    }

    [Fact]
    public async Task A_card_that_can_not_be_read_keeps_no_other_from_being()
    {
        _host.Files.Write("/sys/bus/pci/devices/0000:21:00.0/sriov_numvfs", "1");
        _host.Files.Write("/sys/bus/pci/devices/0000:22:00.0/sriov_numvfs", "1");
        _host.Fault = access =>
        {
            if (access.Path == "rtnetlink/ens2/traffic")
                throw new HostIoException("ask the kernel by rtnetlink about", "ens2", 90);
        };
        IReadOnlyList<VfCounters>? read = await new VfTrafficReader(_host.Files, _time).ReadAsync(
            [PciAddress.Parse("0000:22:00.0"), Pf],
            Limit,
            TestContext.Current.CancellationToken
        );
        Assert.Equal(Pf, Assert.Single(read!).Pf);
    }
}
