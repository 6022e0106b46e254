using System.Text.Json;
using System.Text.RegularExpressions;
using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>
/// A ResourceClaim that Kubernetes made of a ResourceClaimTemplate, for one pod: what it asks of us, and by which attributes its
/// selectors, which were fixed when the template was written, know our offers. Pure.
/// </summary>
/// <param name="Resource">The ResourceClaim.</param>
/// <param name="Template">The template's name, as the selectors say.</param>
/// <param name="Request">What it asks for.</param>
internal sealed partial record TemplateClaim(Resourcev1ResourceClaim Resource, string Template, PassthroughRequest Request)
{
    /// <summary>The attribute with the namespace whose templates an offer is for.</summary>
    public const string NamespaceAttribute = "namespace";

    /// <summary>The attribute with the template that an offer is for.</summary>
    public const string TemplateAttribute = "template";

    // An attribute's text is no longer.
    private const int LongestText = 64;

    /// <summary>Whether a ResourceClaim comes from a template and asks for devices of ours.</summary>
    public static bool Is(Resourcev1ResourceClaim resource) =>
        (resource.Metadata.OwnerReferences ?? []).Any(o => o is { Kind: "Pod", Controller: true }) && Asked(resource).Any();

    /// <summary>The names of its requests for devices of ours.</summary>
    public static IEnumerable<string> Asked(Resourcev1ResourceClaim resource) =>
        (resource.Spec?.Devices?.Requests ?? []).Where(r => r.Exactly?.DeviceClassName == DraNames.Driver).Select(r => r.Name);

    /// <summary>What a ResourceClaim of a template asks for.</summary>
    /// <exception cref="FormatException">It can't be read; the message says what is wrong and what would be right.</exception>
    public static TemplateClaim Of(Resourcev1ResourceClaim resource)
    {
        var templates = (resource.Spec.Devices.Requests ?? [])
            .Where(r => r.Exactly?.DeviceClassName == DraNames.Driver)
            .Select(r => Selector().Match(r.Exactly.Selectors?.FirstOrDefault()?.Cel?.Expression ?? ""))
            .Select(m => m.Success ? m.Groups["template"].Value : null)
            .Distinct()
            .ToList();
        if (templates is not [{ Length: > 0 and <= LongestText } template])
        {
            throw new FormatException(
                "each request of DeviceClass pcioperator.io selects by device.attributes[\"pcioperator.io\"].namespace, .template (the template's name, of 64 characters at most) and .request"
            );
        }

        return new TemplateClaim(resource, template, RequestOf(resource));
    }

    private static PassthroughRequest RequestOf(Resourcev1ResourceClaim resource)
    {
        object? parameters = (resource.Spec.Devices.Config ?? [])
            .FirstOrDefault(c => c.Opaque?.Driver == DraNames.Driver)
            ?.Opaque?.Parameters;
        if (parameters is not JsonElement { ValueKind: JsonValueKind.Object } json)
        {
            throw new FormatException(
                "devices.config has no opaque parameters for driver pcioperator.io: a PassthroughRequest says which aliases, and how many of each"
            );
        }

        try
        {
            PassthroughRequest request = json.Deserialize(ResourceJsonContext.Default.PassthroughRequest)!;
            return request is { ApiVersion: PciOperatorApi.GroupVersion, Kind: PassthroughRequest.KindName, Requests.Count: > 0 }
                ? request
                : throw new FormatException(
                    $"the opaque parameters for driver pcioperator.io are of apiVersion {PciOperatorApi.GroupVersion} and kind {PassthroughRequest.KindName}, with requests as a PassthroughClaim's"
                );
        }
        catch (JsonException broken)
        {
            throw new FormatException(
                $"the opaque parameters for driver pcioperator.io are no {PassthroughRequest.KindName}: {broken.Message}",
                broken
            );
        }
    }

    /// <summary>Whether another ResourceClaim comes of the same template and asks for the same.</summary>
    public bool IsAlike(Resourcev1ResourceClaim other)
    {
        try
        {
            TemplateClaim there = Of(other);
            return there.Template == Template && JsonOf(there.Request) == JsonOf(Request);
        }
        catch (FormatException)
        {
            return false; // its own look says what is wrong with it
        }

        static string JsonOf(PassthroughRequest request) =>
            JsonSerializer.Serialize(request, ResourceJsonContext.Default.PassthroughRequest);
    }

    /// <summary>The PassthroughClaim that stands behind it, which goes with it.</summary>
    /// <param name="name">Its name.</param>
    public PassthroughClaim ToClaim(string name) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = Resource.Metadata.NamespaceProperty,
                OwnerReferences = [OwnerOf(Resource)],
            },
            Spec = new PassthroughClaimSpec
            {
                Requests = Request.Requests,
                NumaPolicy = Request.NumaPolicy,
                GuestNuma = Request.GuestNuma,
                Tolerations = Request.Tolerations,
                PriorityClassName = Request.PriorityClassName,
                BindingMode = BindingMode.WaitForFirstConsumer,
                Delivery = Delivery.DRA,
            },
        };

    /// <summary>The owner by which a PassthroughClaim is a ResourceClaim's.</summary>
    public static V1OwnerReference OwnerOf(Resourcev1ResourceClaim resource) =>
        new()
        {
            ApiVersion = "resource.k8s.io/v1",
            Kind = "ResourceClaim",
            Name = resource.Metadata.Name,
            Uid = resource.Metadata.Uid,
            Controller = true,
        };

    /// <summary>The ResourceClaim of a template that a PassthroughClaim stands behind; null: it was made by somebody, for itself.</summary>
    public static V1OwnerReference? OwnerOf(PassthroughClaim claim) =>
        (claim.Metadata.OwnerReferences ?? []).FirstOrDefault(o =>
            o is { Kind: "ResourceClaim", Controller: true }
            && o.ApiVersion?.StartsWith("resource.k8s.io/", StringComparison.Ordinal) == true
        );

    [GeneratedRegex(
        """device\.attributes\["pcioperator\.io"\]\.template == "(?<template>[^"\\]+)"$|device\.attributes\["pcioperator\.io"\]\.template == "(?<template>[^"\\]+)" &&"""
    )]
    private static partial Regex Selector();
}
