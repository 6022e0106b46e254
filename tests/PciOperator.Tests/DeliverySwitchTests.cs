using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;

namespace PciOperator.Tests;

/// <summary>How a claim is delivered where ways are switched off.</summary>
public sealed class DeliverySwitchTests
{
    [Theory]
    [InlineData(true, true, true, null, Delivery.DRA, null)]
    [InlineData(true, true, false, null, Delivery.DevicePlugin, null)]
    [InlineData(false, true, true, null, Delivery.DevicePlugin, null)]
    [InlineData(true, false, false, null, Delivery.DRA, null)]
    [InlineData(false, false, true, null, Delivery.None, null)]
    [InlineData(false, true, true, Delivery.DRA, Delivery.DRA, Delivery.DevicePlugin)]
    [InlineData(true, false, true, Delivery.DevicePlugin, Delivery.DevicePlugin, Delivery.DRA)]
    [InlineData(false, false, true, Delivery.DRA, Delivery.DRA, Delivery.None)]
    [InlineData(false, false, true, Delivery.None, Delivery.None, null)]
    public void What_is_switched_off_is_given_to_nobody_by_itself_and_is_said_to_who_asks_for_it(
        bool dra,
        bool devicePlugin,
        bool served,
        Delivery? asked,
        Delivery given,
        Delivery? instead
    )
    {
        var deliveries = new Deliveries(new ControllerOptions { Dra = dra, DevicePlugin = devicePlugin }, dra && served);
        var claim = new PassthroughClaim
        {
            Metadata = new V1ObjectMeta { NamespaceProperty = "team", Name = "gpu" },
            Spec = new PassthroughClaimSpec { Delivery = asked },
        };

        Assert.Equal(given, deliveries.Of(claim));
        Assert.Equal(
            instead is null
                ? null
                : (
                    "DeliveryOff",
                    $"this cluster's administrator has switched delivery {asked} off: make the claim with delivery {instead}"
                ),
            deliveries.WhyNot(claim)
        );
    }
}
