using System.Security.Cryptography;
using System.Text;
using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>How claims are delivered, and what the device plugin's resource of one is called. Pure.</summary>
/// <param name="options">What holds for claims that don't say so.</param>
/// <param name="draIsServed">Whether the cluster serves resource.k8s.io/v1.</param>
internal sealed class Deliveries(ControllerOptions options, bool draIsServed)
{
    /// <summary>A qualified name's part after the slash has no more characters.</summary>
    private const int LongestName = 63;

    // What is left for a claim's name when it has to be cut: some of it, and what tells it apart.
    private const int LongestNamespace = 50;
    private const int HashDigits = 8;

    /// <summary>How a claim is delivered.</summary>
    public Delivery Of(PassthroughClaim claim) =>
        claim.Spec.Delivery
        ?? options.DefaultDelivery
        ?? (draIsServed || !options.DevicePlugin ? (options.Dra ? Delivery.DRA : Delivery.None) : Delivery.DevicePlugin);

    /// <summary>Why a claim can't be delivered as it is to be, as a condition says it; null: it can.</summary>
    public (string Reason, string Message)? WhyNot(PassthroughClaim claim) =>
        Of(claim) switch
        {
            Delivery.DRA when !options.Dra => Off(Delivery.DRA, options.DevicePlugin ? Delivery.DevicePlugin : Delivery.None),
            Delivery.DevicePlugin when !options.DevicePlugin => Off(Delivery.DevicePlugin, options.Dra ? Delivery.DRA : Delivery.None),
            Delivery.DevicePlugin when claim.Metadata.NamespaceProperty.Length > LongestNamespace => (
                "NamespaceTooLong",
                $"the device plugin's resources are named by namespace and claim, and a namespace of more than {LongestNamespace} characters leaves no room for it: use delivery DRA"
            ),
            _ => null,
        };

    private static (string Reason, string Message) Off(Delivery asked, Delivery instead) =>
        ("DeliveryOff", $"this cluster's administrator has switched delivery {asked} off: make the claim with delivery {instead}");

    /// <summary>An assignment with what its delivery needs.</summary>
    /// <param name="assignment">The assignment.</param>
    /// <param name="claim">Its claim.</param>
    public PciAssignment Complete(PciAssignment assignment, PassthroughClaim claim) =>
        Of(claim) == Delivery.DevicePlugin && WhyNot(claim) is null ? assignment with { ResourceName = ResourceName(claim) }
        : TemplateClaim.OwnerOf(claim) is { } resource ? assignment with { ResourceClaimUid = resource.Uid }
        : assignment;

    /// <summary>
    /// The extended resource of a claim: <c>pcioperator.io/NAMESPACE.NAME</c>, which an admission policy lets pods of that namespace ask
    /// for. A namespace has no dots, so that two claims never share one.
    /// </summary>
    public static string ResourceName(PassthroughClaim claim)
    {
        string ns = claim.Metadata.NamespaceProperty;
        string name = claim.Metadata.Name!;
        int room = LongestName - ns.Length - 1;
        if (name.Length > room)
        {
            string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..HashDigits];
            name = (name[..Math.Max(0, room - HashDigits - 1)].TrimEnd('-', '.') + "-" + hash).TrimStart('-');
        }

        return $"{PciOperatorApi.Group}/{ns}.{name}";
    }
}
