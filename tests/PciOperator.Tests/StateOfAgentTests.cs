using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Tests;

/// <summary>What an agent keeps in its folder, when that can't be written or read; and refusals that no controller gave.</summary>
public class StateOfAgentTests
{
    private const string Names = $"{SimulatedHost.StateDirectory}/net-device-names.json";
    private const string Freed = $"{SimulatedHost.StateDirectory}/free-requests.json";
    private readonly SimulatedHost _simulated = LabHosts.Create();

    [Theory]
    [InlineData(Errnos.EROFS)]
    [InlineData(Errnos.ENOSPC)]
    public void Names_of_interfaces_that_cannot_be_written_are_known_all_the_same(int errno)
    {
        _simulated.Fault = a =>
        {
            if (a is { Before: true, Path: Names, IsChange: true })
                throw new HostIoException("write", a.Path, errno);
        };
        var host = new PassthroughHost(_simulated.Files, SimulatedHost.StateDirectory);
        var names = new NetDeviceNames(_simulated.Files, SimulatedHost.StateDirectory);
        HostSnapshot seen = names.Restore(host.Scan());
        _simulated.Change("0000:21:00.0", f => f.Driver = null);
        Assert.Equal(
            "ens1",
            names.Restore(host.Scan()).Functions.Single(f => f.Address == PciAddress.Parse("0000:21:00.0")).Function.NetDevice
        );
        Assert.Equal("ens1", seen.Functions.Single(f => f.Address == PciAddress.Parse("0000:21:00.0")).Function.NetDevice);
    }

    [Fact]
    public void Names_that_cannot_be_read_are_none()
    {
        _simulated.Fault = a =>
        {
            if (a is { Before: true, Path: Names, IsChange: false })
                throw new HostIoException("read", a.Path, Errnos.EIO);
        };
        var host = new PassthroughHost(_simulated.Files, SimulatedHost.StateDirectory);
        Assert.NotEmpty(new NetDeviceNames(_simulated.Files, SimulatedHost.StateDirectory).Restore(host.Scan()).Functions);
    }

    [Theory]
    [InlineData(Errnos.EROFS)]
    [InlineData(Errnos.ENOSPC)]
    public async Task What_cannot_be_freed_now_is_freed_later_and_holds_up_nothing(int errno)
    {
        var host = new PassthroughHost(_simulated.Files, SimulatedHost.StateDirectory);
        PciFunction nvme = host.Scan().Functions.Single(f => f.Address == PciAddress.Parse("0000:23:00.0")).Function;
        await host.PrepareAsync(
            new AssignmentRequest
            {
                ClaimUid = "claim-1",
                ClaimNamespace = "lab",
                ClaimName = "claim-1",
                Devices =
                [
                    new DeviceToTake
                    {
                        Address = nvme.Address,
                        VendorId = nvme.VendorId,
                        ProductId = nvme.ProductId,
                        StableId = nvme.StableId,
                        IommuGroup = nvme.IommuGroup,
                        OneTimeUse = true,
                    },
                ],
            }
        );
        Assert.Null(await host.ReleaseAsync("claim-1"));
        var requests = new FreeRequests(host, _simulated.Files, SimulatedHost.StateDirectory);
        var node = new PciNode
        {
            Metadata = new()
            {
                Name = "node-1",
                Annotations = new Dictionary<string, string> { [PciOperatorApi.FreeAnnotation] = "0000:23:00.0" },
            },
        };
        _simulated.Fault = a =>
        {
            if (a is { Before: true, IsChange: true })
                throw new HostIoException("write", a.Path, errno);
        };
        Assert.Empty(requests.Answer(node));
        Assert.Empty(requests.Answer(node));
        _simulated.Fault = null;
        Assert.Equal([(nvme.Address, true)], requests.Answer(node));
        Assert.Empty(requests.Answer(node));

        // Its own file alone can't be written: answered once all the same.
        var none = new PciNode { Metadata = new() { Name = "node-1" } };
        _simulated.Fault = a =>
        {
            if (a is { Before: true, IsChange: true, Path: Freed })
                throw new HostIoException("write", a.Path, errno);
        };
        Assert.Empty(requests.Answer(none));
        Assert.Equal([(nvme.Address, false)], requests.Answer(node));
        Assert.Empty(requests.Answer(node));
    }

    [Theory]
    [InlineData("2030-01-01T00:10:00Z", "0000:21:00.0", 1)]
    [InlineData("2036-01-01T00:00:00Z", "0000:21:00.0", 0)]
    [InlineData("9999-12-31T23:59:59Z", "0000:21:00.0", 0)]
    [InlineData("0001-01-01T00:00:00Z", "0000:21:00.0", 0)]
    [InlineData(null, "0000:21:00.0", 0)]
    [InlineData("2030-01-01T00:10:00Z", "not an address", 0)]
    public void A_refusal_that_no_controller_can_have_given_keeps_nothing_from_a_claim(string? until, string address, int kept)
    {
        var now = new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);
        var claim = new PassthroughClaim
        {
            Metadata = new() { Uid = "claim-1" },
            Status = new()
            {
                Refusals =
                [
                    new ClaimRefusal
                    {
                        NodeName = "node-1",
                        Addresses = [address],
                        Until = until is null ? null : DateTimeOffset.Parse(until, System.Globalization.CultureInfo.InvariantCulture),
                    },
                ],
            },
        };
        Assert.Equal(kept, claim.ToRequirements(_ => null, now).Excluded.Count);
    }
}
