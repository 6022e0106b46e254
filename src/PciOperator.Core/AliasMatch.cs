namespace PciOperator.Core;

/// <summary>Whether a device is what an alias asks for: Nova's rule of pools, with the fields that Nova's aliases lack.</summary>
internal static class AliasMatch
{
    public static bool Matches(AliasDefinition alias, PciFunction f, DeviceTags tags)
    {
        if (alias.LiveMigratable is { } live && tags.LiveMigratable != live)
            return false;
        foreach (AliasSelector selector in alias.AnyOf)
        {
            if (Matches(selector, f, tags))
                return true;
        }
        return false;
    }

    private static bool Matches(AliasSelector s, PciFunction f, DeviceTags tags)
    {
        bool type = s.Type is { } wanted ? f.Type == wanted : f.Type is DeviceType.Pci or DeviceType.Vf;
        if (!type
            || (s.VendorId is { } vendor && vendor != f.VendorId)
            || (s.ProductId is { } product && product != f.ProductId)
            || (s.RemoteManaged ?? false) != tags.RemoteManaged
            || (s.Trusted is { } trusted && trusted != tags.Trusted)
            || (s.PhysicalNetwork is { } network && !string.Equals(network, tags.PhysicalNetwork, StringComparison.OrdinalIgnoreCase)))
            return false;
        if (s.ResourceClass is { } resourceClass
            && ResourceClass.Normalize(resourceClass) != (tags.ResourceClass is { } own ? ResourceClass.Normalize(own) : ResourceClass.Default(f.VendorId, f.ProductId)))
            return false;
        foreach (string trait in s.Traits)
        {
            string normal = Trait.Normalize(trait);
            if (!tags.Traits.Any(t => Trait.Normalize(t) == normal))
                return false;
        }
        foreach ((string key, string value) in s.Tags)
        {
            if (!tags.Other.TryGetValue(key, out string? has) || !string.Equals(has, value, StringComparison.OrdinalIgnoreCase))
                return false;
        }
        return true;
    }
}
