using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Controller;

/// <summary>
/// What is written into resource.k8s.io for a claim, and what is read there: one ResourceClaim of the claim's own name, and one ResourceSlice
/// that offers its devices to that ResourceClaim alone. Pure.
/// </summary>
internal static class ResourceObjects
{
    /// <summary>A ResourceClaim has no more requests and no more results (k8s.io/api resource/v1).</summary>
    public const int MostRequests = 32;

    /// <summary>A node selector has no more candidates than this.</summary>
    public const int MostCandidates = 64;

    private const int LongestText = 64;

    /// <summary>The label of each ResourceClaim that the controller watches: its own, and those that a template of ours makes.</summary>
    public const string Label = PciOperatorApi.Group + "/passthrough";

    /// <summary>The selector of <see cref="Label"/>.</summary>
    public const string Labelled = Label + "=true";

    // Where a slice's claim is: the slice has no namespace, and names are not identities, so that this only says where to look.
    private const string ClaimAnnotation = PciOperatorApi.Group + "/claim";

    /// <summary>The ResourceClaim of a claim, with a request for each device.</summary>
    public static Resourcev1ResourceClaim Claim(PassthroughClaim claim, IEnumerable<string> devices) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = claim.Metadata.Name,
                NamespaceProperty = claim.Metadata.NamespaceProperty,
                Labels = new Dictionary<string, string> { [Label] = "true" },
                OwnerReferences = [Owner(claim)],
            },
            Spec = new V1ResourceClaimSpec
            {
                Devices = new V1DeviceClaim { Requests = [.. devices.Select(d => Request(claim.Metadata.Uid!, d))] },
            },
        };

    /// <summary>The owner that a claim's ResourceClaim has, and no other ResourceClaim.</summary>
    public static V1OwnerReference Owner(PassthroughClaim claim) =>
        new()
        {
            ApiVersion = PciOperatorApi.GroupVersion,
            Kind = "PassthroughClaim",
            Name = claim.Metadata.Name,
            Uid = claim.Metadata.Uid,
            Controller = true,
        };

    /// <summary>Whether a ResourceClaim is a claim's own: names are not identities.</summary>
    public static bool IsOf(Resourcev1ResourceClaim resource, PassthroughClaim claim) =>
        resource.Metadata.NamespaceProperty == claim.Metadata.NamespaceProperty
        && (
            TemplateClaim.OwnerOf(claim) is { } owner
                ? owner.Uid == resource.Metadata.Uid
                : (resource.Metadata.OwnerReferences ?? []).Any(o =>
                    o is { Kind: "PassthroughClaim", Controller: true } && o.Uid == claim.Metadata.Uid
                )
        );

    /// <summary>The name of a claim's ResourceClaim: its own, or that of the template's which it stands behind.</summary>
    public static string NameFor(PassthroughClaim claim) => TemplateClaim.OwnerOf(claim)?.Name ?? claim.Metadata.Name!;

    /// <summary>The names of a ResourceClaim's requests.</summary>
    public static IEnumerable<string> Requests(Resourcev1ResourceClaim resource) => TemplateClaim.Asked(resource);

    /// <summary>Whether a ResourceClaim asks for these devices of the claim, and for nothing else.</summary>
    public static bool AsksFor(Resourcev1ResourceClaim resource, PassthroughClaim claim, IReadOnlyCollection<string> devices) =>
        (resource.Spec?.Devices?.Requests ?? [])
            .Select(r => (r.Name, r.Exactly?.DeviceClassName, r.Exactly?.Selectors?.FirstOrDefault()?.Cel?.Expression))
            .ToHashSet()
            .SetEquals(devices.Select(d => (d, (string?)DraNames.Driver, (string?)Selector(claim.Metadata.Uid!, d))));

    /// <summary>The names of the devices that a ResourceClaim can ask for: those that were asked for, then companions, 32 in all.</summary>
    /// <param name="devices">The assignment's.</param>
    /// <returns>Null: more were asked for than a ResourceClaim can carry.</returns>
    public static IReadOnlyDictionary<PciAddress, string>? Offered(IReadOnlyList<AssignedDevice> devices)
    {
        IReadOnlyDictionary<PciAddress, string> names = DraNames.Of(devices);
        if (names.Count <= MostRequests)
            return names;
        var companions = devices.Where(d => d.Companion == true).Select(d => PciAddress.Parse(d.Address)).ToHashSet();
        // Companions are bound whether they are handed on or not: a guest can do without them.
        return names.Count - companions.Count > MostRequests
            ? null
            : names.OrderBy(n => companions.Contains(n.Key)).ThenBy(n => n.Key).Take(MostRequests).ToDictionary();
    }

    /// <summary>The slice that offers a claim's devices on the node that has them.</summary>
    public static V1ResourceSlice Pinned(
        PassthroughClaim claim,
        PciNode node,
        IReadOnlyList<AssignedDevice> assigned,
        IReadOnlyDictionary<PciAddress, string> names
    )
    {
        var shown = (node.Status?.Devices ?? []).ToDictionary(d => d.Address);
        var devices = assigned.ToDictionary(d => PciAddress.Parse(d.Address));
        return Slice(
            claim,
            [
                .. names
                    .OrderBy(n => n.Key)
                    .Select(n => new V1Device
                    {
                        Name = n.Value,
                        Attributes = Attributes(claim, n.Value, devices[n.Key], shown.GetValueOrDefault(devices[n.Key].Address)),
                    }),
            ],
            // One value is all that matchFields takes, and a Node's hostname label may differ from its name.
            new V1NodeSelectorTerm
            {
                MatchFields =
                [
                    new V1NodeSelectorRequirement
                    {
                        Key = "metadata.name",
                        OperatorProperty = "In",
                        Values = [node.Metadata.Name],
                    },
                ],
            }
        );
    }

    /// <summary>The slice that offers a claim on any of some nodes: kube-scheduler takes one, and waits until it is bound (KEP-5007).</summary>
    /// <param name="claim">The claim.</param>
    /// <param name="names">What the devices will be called, wherever they are.</param>
    /// <param name="hostnames">The nodes' hostname labels, best first.</param>
    /// <param name="template">The template whose ResourceClaims it is for; null: for the claim's own.</param>
    public static V1ResourceSlice Open(
        PassthroughClaim claim,
        IEnumerable<string> names,
        IReadOnlyList<string> hostnames,
        string? template = null
    ) =>
        Slice(
            claim,
            [
                .. names.Select(n => new V1Device
                {
                    Name = n,
                    Attributes = Identity(claim, n, template),
                    BindsToNode = true,
                    BindingConditions = [DraNames.Bound],
                    BindingFailureConditions = [DraNames.Refused],
                }),
            ],
            new V1NodeSelectorTerm
            {
                MatchExpressions =
                [
                    new V1NodeSelectorRequirement
                    {
                        Key = HostnameLabel,
                        OperatorProperty = "In",
                        Values = [.. hostnames],
                    },
                ],
            }
        );

    /// <summary>The label that a node selector knows several nodes by.</summary>
    public const string HostnameLabel = "kubernetes.io/hostname";

    /// <summary>A Node's hostname label; null: it has none, or there is no such Node.</summary>
    public static string? HostnameOf(V1Node? node) =>
        node?.Metadata.Labels?.TryGetValue(HostnameLabel, out string? host) == true ? host : null;

    /// <summary>The hostnames that an open slice names; empty for a pinned one.</summary>
    public static IReadOnlyCollection<string> Hostnames(V1ResourceSlice slice) =>
        [.. (Term(slice)?.MatchExpressions ?? []).Where(e => e.Key == HostnameLabel).SelectMany(e => e.Values ?? [])];

    /// <summary>Whether a server kept the binding conditions: one that does not know them drops them.</summary>
    public static bool HasBindingConditions(V1ResourceSlice slice) =>
        (slice.Spec.Devices ?? []).All(d => d.BindsToNode == true && d.BindingConditions is { Count: > 0 });

    /// <summary>Whether two slices offer the same; hostnames have no order.</summary>
    public static bool OffersTheSame(V1ResourceSlice one, V1ResourceSlice other) =>
        one.Spec.Driver == other.Spec.Driver
        && one.Spec.Pool?.Name == other.Spec.Pool?.Name
        && one.Spec.NodeName == other.Spec.NodeName
        && one.Spec.AllNodes == other.Spec.AllNodes
        && SelectorOf(one).SetEquals(SelectorOf(other))
        && DevicesOf(one).SetEquals(DevicesOf(other));

    private static HashSet<string> SelectorOf(V1ResourceSlice slice) =>
        [
            .. (slice.Spec.NodeSelector?.NodeSelectorTerms ?? []).SelectMany(
                (term, i) =>
                    (term.MatchExpressions ?? [])
                        .Concat(term.MatchFields ?? [])
                        .SelectMany(r => (r.Values ?? []).Select(v => $"{i} {r.Key} {r.OperatorProperty} {v}"))
            ),
        ];

    private static HashSet<string> DevicesOf(V1ResourceSlice slice) =>
        [
            .. (slice.Spec.Devices ?? []).Select(d =>
                $"{d.Name} {d.BindsToNode} {string.Join(',', d.BindingConditions ?? [])} {string.Join(',', d.BindingFailureConditions ?? [])} "
                + string.Join(
                    ' ',
                    (d.Attributes ?? new Dictionary<string, V1DeviceAttribute>())
                        .OrderBy(a => a.Key, StringComparer.Ordinal)
                        .Select(a => $"{a.Key}={a.Value.StringValue}{a.Value.IntValue}{a.Value.BoolValue}")
                )
            ),
        ];

    /// <summary>The name of a claim's slice.</summary>
    public static string SliceName(string claimUid) => DraNames.Driver + "-" + DraNames.Pool(claimUid);

    /// <summary>The UID of the claim whose slice it is, and where that claim is; null: it is no slice of ours.</summary>
    public static (string Uid, string Namespace, string Name)? ClaimOf(V1ResourceSlice slice)
    {
        if (slice.Spec?.Driver != DraNames.Driver || DraNames.ClaimOfPool(slice.Spec.Pool?.Name) is not { } uid)
            return null;
        string where = slice.Metadata.Annotations?.TryGetValue(ClaimAnnotation, out string? value) == true ? value : "";
        int slash = where.IndexOf('/', StringComparison.Ordinal);
        return slash < 0 ? (uid, "", "") : (uid, where[..slash], where[(slash + 1)..]);
    }

    private static V1ResourceSlice Slice(PassthroughClaim claim, IList<V1Device> devices, V1NodeSelectorTerm where) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = SliceName(claim.Metadata.Uid!),
                Annotations = new Dictionary<string, string>
                {
                    [ClaimAnnotation] = $"{claim.Metadata.NamespaceProperty}/{claim.Metadata.Name}",
                },
            },
            Spec = new V1ResourceSliceSpec
            {
                Driver = DraNames.Driver,
                Pool = new V1ResourcePool
                {
                    Name = DraNames.Pool(claim.Metadata.Uid!),
                    Generation = 1,
                    ResourceSliceCount = 1,
                },
                NodeSelector = new V1NodeSelector { NodeSelectorTerms = [where] },
                Devices = devices,
            },
        };

    private static V1NodeSelectorTerm? Term(V1ResourceSlice slice) => slice.Spec?.NodeSelector?.NodeSelectorTerms?.FirstOrDefault();

    // What is pinned is allocated, or was: only an open offer is for any ResourceClaim of its template.
    private static Dictionary<string, V1DeviceAttribute> Identity(PassthroughClaim claim, string name, string? template = null)
    {
        var attributes = new Dictionary<string, V1DeviceAttribute>
        {
            [DraNames.ClaimUidAttribute] = new V1DeviceAttribute { StringValue = claim.Metadata.Uid },
            [DraNames.RequestAttribute] = new V1DeviceAttribute { StringValue = name },
        };
        if (template is not null)
        {
            attributes[TemplateClaim.NamespaceAttribute] = new V1DeviceAttribute { StringValue = claim.Metadata.NamespaceProperty };
            attributes[TemplateClaim.TemplateAttribute] = new V1DeviceAttribute { StringValue = template };
        }

        return attributes;
    }

    private static Dictionary<string, V1DeviceAttribute> Attributes(
        PassthroughClaim claim,
        string name,
        AssignedDevice device,
        PciNodeDevice? shown
    )
    {
        Dictionary<string, V1DeviceAttribute> attributes = Identity(claim, name);
        Text("resource.kubernetes.io/pciBusID", device.Address);
        Text("resource.kubernetes.io/pcieRoot", shown?.PcieRoot);
        Text("vendorID", device.VendorId);
        Text("deviceID", device.ProductId);
        Text("classCode", shown?.ClassCode);
        Text("type", shown?.Type.ToString());
        Text("parent", shown?.ParentAddress);
        Text("serial", shown?.Serial);
        Number("resource.kubernetes.io/numaNode", device.NumaNode);
        Number("iommuGroup", shown?.IommuGroup ?? device.IommuGroup);
        if (device.Companion == true)
            attributes["companion"] = new V1DeviceAttribute { BoolValue = true };
        return attributes;

        void Text(string key, string? value)
        {
            if (value is { Length: > 0 and <= LongestText })
                attributes[key] = new V1DeviceAttribute { StringValue = value };
        }

        void Number(string key, int? value)
        {
            if (value is { } number)
                attributes[key] = new V1DeviceAttribute { IntValue = number };
        }
    }

    private static V1DeviceRequest Request(string uid, string device) =>
        new()
        {
            Name = device,
            Exactly = new V1ExactDeviceRequest
            {
                DeviceClassName = DraNames.Driver,
                AllocationMode = "ExactCount",
                Count = 1,
                Selectors = [new V1DeviceSelector { Cel = new V1CELDeviceSelector { Expression = Selector(uid, device) } }],
            },
        };

    // A slice of another driver has no such domain, and to ask for what is not there is an error.
    private static string Selector(string uid, string device) =>
        $"device.driver == \"{DraNames.Driver}\" && device.attributes[\"{DraNames.Driver}\"].{DraNames.ClaimUidAttribute} == \"{uid}\""
        + $" && device.attributes[\"{DraNames.Driver}\"].{DraNames.RequestAttribute} == \"{device}\"";
}
