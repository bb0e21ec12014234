//! OAuth token persistence for Zoho.
