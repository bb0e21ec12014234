//! The tier [`Basic`](super::Tier::Basic): what the six methods mean.
//!
//! Every function opens a store at a place of its own, and breaks off at the first violation.
//!
//! [`identity`] says which record a save updates, [`ids`] what numbers records get, [`fields`] what
//! becomes of the values, [`lookup`] what is found and deleted, [`hostile`] what text does,
//! [`facts`] what becomes of news about a record, [`secrecy`] what is printed, [`together`] what
//! happens at once, [`random`] everything in any order.
#![expect(
    clippy::missing_errors_doc,
    reason = "the error of a rule is that the store breaks it, and the rule is its doc"
)]

pub mod facts;
pub mod fields;
pub mod hostile;
pub mod identity;
pub mod ids;
pub mod lookup;
pub mod random;
pub mod secrecy;
pub mod together;

pub use facts::*;
pub use fields::*;
pub use hostile::*;
pub use identity::*;
pub use ids::*;
pub use lookup::*;
pub use random::*;
pub use secrecy::*;
pub use together::*;

/// Hands the names of the rules to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_basic_rules {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! {
            $($argument)*
            a_new_login_is_inserted
            save_is_an_upsert
            two_clients_of_one_user_stay_apart
            a_token_under_another_name_is_another_login
            a_nameless_record_is_known_by_its_tokens
            a_name_learned_later_joins_the_record
            records_of_one_login_become_one
            nameless_records_of_a_login_are_taken_in
            an_id_of_another_login_is_a_conflict
            a_save_that_says_nothing_is_refused
            ids_rise_past_9_and_99
            ids_are_never_used_twice
            a_deleted_record_stays_deleted
            a_record_moves_in_with_its_id
            the_last_id_is_the_last
            all_ten_fields_come_back
            blank_fields_keep_the_stored_value
            filled_fields_replace_the_stored_value
            an_access_token_and_its_expiry_go_together
            any_moment_can_be_an_expiry
            absence_is_an_answer
            every_criterion_finds_its_record
            a_query_with_a_client_finds_only_its_records
            the_lowest_id_answers
            a_near_miss_finds_nobody
            a_near_miss_is_another_login
            delete_takes_one_record
            delete_tokens_takes_all_and_counts_them
            pages_list_every_record_once
            hostile_text_comes_back_or_is_refused
            hostile_queries_find_nothing_and_change_nothing
            names_of_people_are_stored
            long_text_comes_back_or_is_refused
            errors_carry_no_secret
            the_store_prints_no_secret
            one_login_saved_at_once_is_one_record
            logins_saved_at_once_are_all_there
            readers_see_whole_records
            one_of_many_deletes_wins
            a_save_that_is_given_up_leaves_a_whole_record
            the_store_works_behind_pointers
            a_fact_is_saved_while_the_credential_is_the_same
            a_fact_is_superseded_by_what_is_newer
            a_fact_about_a_record_that_is_gone_changes_nothing
            random_operations_follow_the_rule_book
        }
    };
}

crate::__conformance_basic_rules! { __conformance_list }
